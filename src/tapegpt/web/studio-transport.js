// How the page's requests reach the studio: over HTTP. In the folder of a page without a server, studio-static.js stands
// at this address. Not here: what is asked (studio-api.js).

export const silence = "The studio does not answer: is tapegpt studio still running?";

// The model that the studio begins with comes with the page's address.
export const firstModel = async () => null;

// The `Response` to a request.
export function ask(path, request) {
  return fetch(path, request);
}
