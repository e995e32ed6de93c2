"""Makes fixtures/pilot_posterior.json: the pilot model's posterior by Hamiltonian Monte Carlo, to compare our own with.

Run: python -m venv /tmp/hmc; /tmp/hmc/bin/pip install numpyro; /tmp/hmc/bin/python tests/make_pilot_posterior.py

Not run by any test: numpyro would add some 390 MB to the tests' requirements.
"""

import json
from pathlib import Path

import numpy as np
import numpyro
import numpyro.distributions as dist
from jax import random
from numpyro.infer import MCMC, NUTS

FIXTURE = Path(__file__).parent / "fixtures" / "pilot_posterior.json"
PRIOR = {"mean": [1.0, 3.0, -0.2], "sd": [3.0, 9.0, 1.2]}
SPLITS = [[2, 640], [3, 426], [4, 320]]


def made_up_cells() -> dict[str, list[float]]:
    """Two draws of two sizes and two K, with made-up errors of draws and cells."""
    rng = np.random.default_rng(17)
    cells = [(k, m, draw) for draw in (42, 43) for k in (2, 4) for m in (64, 32)]
    by_draw = {42: 1.5, 43: -2.0}
    rewards = [
        30 + 5 * np.log2(m / 45) + 4 * np.log2(k / 3) + by_draw[draw] + rng.normal(0, 2.5) for k, m, draw in cells
    ]
    k, m, draw = map(list, zip(*cells, strict=True))
    return {"ranking_lens": k, "sizes": m, "draws": draw, "rewards": [round(reward, 3) for reward in rewards]}


def model(rows: np.ndarray, draw: np.ndarray, rewards: np.ndarray) -> None:
    level = numpyro.sample("a", dist.Normal(50, 50))
    slopes = numpyro.sample("slopes", dist.Normal(np.array(PRIOR["mean"]), np.array(PRIOR["sd"])))
    tau = numpyro.sample("tau", dist.HalfNormal(5.0))
    sigma = numpyro.sample("sigma", dist.HalfNormal(5.0))
    shift = numpyro.sample("shift", dist.Normal(np.zeros(draw.max() + 1), 1.0))
    numpyro.sample("y", dist.Normal(level + rows @ slopes + tau * shift[draw], sigma), obs=rewards)


def main() -> None:
    numpyro.enable_x64()
    cells = made_up_cells()
    x = np.log2(cells["sizes"])
    centre = x.mean()
    z = np.log2(np.array(cells["ranking_lens"]) / 3)
    rows = np.column_stack([x - centre, z, (x - centre) * z])
    draw = np.unique(cells["draws"], return_inverse=True)[1]
    mcmc = MCMC(NUTS(model, target_accept_prob=0.98), num_warmup=2000, num_samples=25_000, num_chains=2)
    mcmc.run(random.PRNGKey(0), rows, draw, np.array(cells["rewards"]))
    found = mcmc.get_samples()
    slopes = np.asarray(found["slopes"])
    at = [[np.log2(m) - centre, np.log2(k / 3), (np.log2(m) - centre) * np.log2(k / 3)] for k, m in SPLITS]
    rewards = np.asarray(found["a"])[:, None] + slopes @ np.array(at).T
    best = rewards.argmax(axis=1)
    written = {
        "made_by": "tests/make_pilot_posterior.py, numpyro " + numpyro.__version__,
        "prior": PRIOR,
        "cells": cells,
        "splits": SPLITS,
        "coefficients": {
            "mean": [float(found["a"].mean()), *slopes.mean(axis=0)],
            "sd": [float(found["a"].std()), *slopes.std(axis=0)],
        },
        "spreads": [float(found["tau"].mean()), float(found["sigma"].mean())],
        "rewards": rewards.mean(axis=0).tolist(),
        "intervals": np.quantile(rewards, [0.025, 0.975], axis=0).T.tolist(),
        "p_best": [float((best == i).mean()) for i in range(len(SPLITS))],
        "regret": (rewards.max(axis=1, keepdims=True) - rewards).mean(axis=0).tolist(),
    }
    FIXTURE.write_text(json.dumps(written, indent=1) + "\n")


if __name__ == "__main__":
    main()
