"""The studio: a small HTTP server on this machine, whose page retrains a model at every move of a slider.

    server.py       a socket, uvicorn, the address to open
    app.py          the application: routes, pages, errors
    guard.py        access, sizes of bodies, headers of all responses
    openapi.py      the table of endpoints, and the description of the API that is made of it
    requests.py     what requests hold, as msgspec's structs
    responses.py    what responses hold
    controls.py     the settings that requests may have, and those that the page offers
    replies.py      JSON, and errors as responses
    runs.py         endpoints of corpora, trainings and model files
    uploads.py      files of data, read as the command line reads them
    questions.py    endpoints about one run
    completions.py  OpenAI's endpoints, and completions_schema.py what they take and give
    studio.py       what the endpoints share
    store.py        corpora and runs in memory, the least recently used dropped
    work.py         threads: how many tasks at a time, how many wait, how long each may take
    training.py     a request's training, with its progress, until the client disconnects
    limits.py       limits of requests

It needs the extra `studio`: starlette, uvicorn and msgspec. Not here: what is shown of a model (`tapegpt.web`).
"""
