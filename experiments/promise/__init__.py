"""Does laziness keep its promise? ``python -m experiments promise``.

The promise: at no recorded round is a lazy run worse than SGD, or FedAvg where workers
take local steps, after as many rounds, and it uploads less. Every data set, partition,
number of local steps and schedule of the learning rate is a cell of its own:

    suite.py        the cells, and the runs of each
    verdict.py      where a method breaks the promise, and what it saves
    command.py      the command, through the store of `experiments.reproduce`
"""
