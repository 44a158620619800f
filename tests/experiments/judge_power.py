"""Tries the judge on real brains: a perfect generator, and which planted failures it catches.

    python tests/experiments/judge_power.py --dataset PATH [--compared 28 60] [--quick]

For each number of persons to compare with, as many others take the generator's place, and the judge
learns from everybody else. The table gives p of each measure for these real brains, which should be
below 0.05 for one measure in twenty at most, and the planted failures that it catches.
"""

import _project  # noqa: F401
import numpy as np
import pandas

from dataset import OASIS
from hyperparameters import Hyperparameters, add_data_dir
from oasisvq.core.configuration import Parser
from oasisvq.core.script import run_script
from oasisvq.evaluation.judgement import brains_of, judge_brains


def main():
    """Prints a table for each number of persons."""
    parser = Parser(description=__doc__.splitlines()[0])
    add_data_dir(parser)
    parser.add_argument("--compared", type=int, nargs="+", default=[28, 60], help="persons")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true")
    Hyperparameters.add_flags(parser, ["dataset"])
    arguments = parser.parse_args()
    slices = OASIS(Hyperparameters().with_flags(arguments).data, arguments.data_dir)
    everybody = brains_of(slices, slices.rows("all"))
    names = everybody.table["subject"].unique()
    names = np.random.default_rng(arguments.seed).permutation(names)
    for count in arguments.compared:
        place = everybody.table["subject"].map({name: n for n, name in enumerate(names)})
        parts = np.minimum(place.to_numpy() // count, 2)  # the generator's, compared with, others
        new, test, others = (everybody.part(np.flatnonzero(parts == n)) for n in range(3))
        report, _ = judge_brains(
            new, test, others, seed=arguments.seed, quick=arguments.quick, pixel_size=1.0
        )
        print(
            f"\n{count} persons ({len(new.table)} slices) in the generator's place, beside {count} "
            f"persons ({len(test.table)} slices); {report['other_persons']} others"
        )
        print(table(report["measures"]).to_string())
        print({name: report[name] for name in ("tissue", "predictions", "copies", "classifier")})


def table(measures):
    """Returns a row for each measure: its value, floor, p, and a cross for each failure caught."""
    rows = {
        name: {
            "value": round(entry["value"], 3),
            "floor": round(entry["floor"], 3),
            "p": round(entry["p"], 3),
            **{failure: "x" if failure in entry["caught"] else "" for failure in entry["planted"]},
        }
        for name, entry in measures.items()
    }
    return pandas.DataFrame.from_dict(rows, orient="index")


if __name__ == "__main__":
    run_script(main)
