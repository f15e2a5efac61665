"""The papers' figures and tables, made anew: ``python -m experiments reproduce``.

A study is a TOML file in ``experiments/configs``: what runs on which data, with how
many seeds. How it becomes CSV and plots:

    command.py      the command, its progress and its errors
    config.py       reads and checks a TOML file
    study.py        what it says: a `Study`, which makes an `experiments.run.Run` of
                    each method, place and seed
    store.py        carries a run out once and keeps the result, under its hash
    ahead.py        carries runs out ahead of being asked for, several at a time
    grid.py         learning rates by grid search, through the same store

What a study's key ``module`` may name, each with two functions: ``planned(study)``, how
many results it will ask the store for, and ``produce(study, store, out)``, which writes
into `out`:

    curves          loss and accuracy against iterations, uploads, bits (the default);
                    with the option ``ranking`` also who needs the fewest bytes
    workers         uploads to a target for several numbers of workers (Figures 6, 7)
    appendix        curves, lemmas and rate of sparse local SGD
    laziness        the two sides of WK2's rule along plain SGD
    table1          who holds, sends and computes how much
    theorems        theory.py states them, theorem_runs.py measures them
    claims          sentences of the papers, against the CSV files of the others

``summary.py`` makes the tables for reading, ``captions.py`` what stands under plots;
`experiments.tables` writes CSV and `experiments.plots` draws. A new figure is a TOML
file, and a module only if it shows something new.

Keys of a study, beside those that `Study` and `Entry` explain: ``like = "fig8"``
takes every table and key of that file that the study does not have itself, ``[quick]``
changes some of them for the small version, and ``options`` are the module's own.
"""
