"""The studio: a small HTTP server on this machine, whose page retrains a model at every move of a slider.

    server.py       a socket, uvicorn, the address to open
    app.py          the application: routes, pages, errors
    guard.py        access, sizes of bodies, headers of all responses
    policy.py       the page's content security policy
    openapi.py      the table of endpoints, and the description of the API that is made of it
    requests.py     what requests hold, as msgspec's structs
    responses.py    what responses hold
    controls.py     the settings that requests may have, and those that the page offers
    replies.py      JSON, and errors as responses
    runs.py         endpoints of corpora, trainings and model files
    uploads.py      files of data, read as the command line reads them
    questions.py    endpoints about one run
    completions.py  OpenAI's endpoints
    studio.py       what the endpoints share
    store.py        corpora and runs in memory, the least recently used dropped
    work.py         threads: how many tasks at a time, how many wait, how long each may take
    training.py     a request's training, with its progress, until the client disconnects
    limits.py       limits of requests
    static.py       the page as a folder of files, without a server
    browser.py      the application inside a browser: requests are messages of the page

It needs the extra `studio`: starlette, uvicorn and msgspec. Not here: what is shown of a model (`tapegpt.web`).
"""

from __future__ import annotations

from tapegpt.data.corpus import CORPUS, Corpus
from tapegpt.errors import TapeGPTError, missing
from tapegpt.inference.language_model import MODEL
from tapegpt.ranges import Instance

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from tapegpt.models.trained import GPT
    from tapegpt.studio.limits import Limits
    from tapegpt.studio.server import Server
    from tapegpt.studio.studio import Studio

HOST, PORT = "127.0.0.1", 8347
EXTRA = ("msgspec", "starlette", "uvicorn")  # what it needs


def serve(
    corpus: Corpus,
    model: GPT | None = None,
    *,
    name: str = "data",
    host: str = HOST,
    port: int = PORT,
    limits: Limits | None = None,
    log: Callable[[str], None] = lambda line: None,
) -> Server:
    """A server of the page at its `address`: `run` serves until Ctrl-C, or until another thread calls `stop`.

        server = tapegpt.studio.serve(tapegpt.Corpus.read("names.txt"))
        print(server.address)
        server.run()

    The page begins with the corpus, and with a model, whose training is shown where it can be repeated; `log` gets a
    line about whatever goes wrong. Port 0 is any free one. Raises `TapeGPTError` where the extra `studio` is not
    installed, the address is not available, or the model is an ensemble.
    """
    try:
        from tapegpt.studio.limits import Limits
        from tapegpt.studio.server import Server
        from tapegpt.studio.store import KeptCorpus
        from tapegpt.studio.studio import Studio
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in EXTRA:
            raise
        raise missing(str(error.name), "studio") from None
    CORPUS.check("corpus", corpus)
    limits = Limits() if limits is None else limits
    Instance(Limits).check("limits", limits)
    studio = Studio(KeptCorpus(corpus, name), limits, log)
    shown = "" if model is None else f"#run={_show(studio, model, log)}"
    server = Server(studio, host, port)
    server.address += shown
    return server


def _show(studio: Studio, model: GPT, log: Callable[[str], None]) -> str:
    """Keep a model, with its training where that can be repeated; the id of the run."""
    from tapegpt.studio.studio import single
    from tapegpt.training.recording import replay, still

    MODEL.check("model", model)
    if model.models:
        raise TapeGPTError(single("the model", len(model.models)))
    try:
        known = None if model.documents is None else Corpus(list(model.documents), model.vocabulary)
        recording = replay(model, corpus=known)
    except TapeGPTError as error:
        log(error.for_command)
        recording = still(model)
    return studio.add_recording(recording).id
