"""The benchmark suite, ``python -m pyebm bench``: every claim measured beside its rivals. Imported
on first use only.

=====================  ========================================================================
``case``               a benchmark: the work, its sides, the check that all of them do the same
``bench_*``            the benchmarks themselves, a file for each kind of work
``rivals``             the packages that stand beside ours, and why one is missing
``timing``             sides that take turns in one process; memory; dispatcher operations
``machine``            the machine's limits, measured in the same run; versions, commit, load
``suite``              the pytest module that pytest-benchmark's JSON comes from
``records``            reading, merging and comparing those JSONs
``report``, ``plots``  the report and the pictures that people read
``goals``              goals of learned energies, beside what is reached and what arithmetic allows
``model``              predictions for GPUs on machines without one, labelled as a model
``cli``                the command
``integrations``       another command: the table of docs/integrations-figures.md
``call_sites``         both sides of each call site in that table
=====================  ========================================================================
"""

if __name__ != "pyebm.benchmarks":
    raise ImportError(f"these benchmarks are part of pyebm: import pyebm.benchmarks, not {__name__}")

# Reports are compared only when they have the same SUITE: raise it when a case's work, inputs or
# sides change.
SUITE = 3
