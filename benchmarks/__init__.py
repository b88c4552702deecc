"""The benchmark suite, ``python -m pyebm bench``: every claim measured beside its rivals. Imported
on first use only.

========================
==================================================================================================
``case``                  what a benchmark is: the work, its sides, the check that all of them do
the same ``bench_*``               the benchmarks themselves, a file for each kind of work
``rivals``                the packages that stand beside ours, and why one is missing ``timing``
           sides that take turns in one process; memory; dispatcher operations ``machine``
               what the machine can do, measured in the same run; versions, commit, load
``suite``                 the pytest module that pytest-benchmark's JSON comes from
``records``               reading, merging and comparing those JSONs
``report``, ``plots``     what people read
``model``                 what GPUs would do, where there is none: labelled as a model
``cli``                   the command
``integrations``          another: the table of docs/integrations.md, from both sides of each call
site (``call_sites``) ========================
==================================================================================================
"""

if __name__ != "pyebm.benchmarks":
    raise ImportError(f"these benchmarks are part of pyebm: import pyebm.benchmarks, not {__name__}")

# Figures of two suites are compared only where this is the same: it changes when a case's work,
# inputs or sides change.
SUITE = 2
