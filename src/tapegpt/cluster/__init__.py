"""The same on a cluster of Ray: sweeps, and strings by the billion.

    with Cluster("local") as cluster:  # or "auto", or "HOST:PORT" of a head node
        tapegpt.sweep("input.txt", random={"n_embd": (16, 64)}, executor=Executor(cluster), threads=cluster.cores())
        generate(cluster, model, 10_000_000, "out")

`connection.py` is the cluster, `population.py` trains there, `bulk.py` generates and scores there, `parts.py` says what
each worker reads and writes, `models.py` how models travel. Takes the extra `ray`. Not here: what is trained, generated
or scored, which is what it is on one machine.
"""

from __future__ import annotations

from tapegpt.cluster.bulk import generate, score
from tapegpt.cluster.connection import Cluster
from tapegpt.cluster.population import Executor

__all__ = ["Cluster", "Executor", "generate", "score"]
