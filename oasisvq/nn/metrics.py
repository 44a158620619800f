"""How well a codebook is used."""

import numpy as np


def codebook_use(counts):
    """How a codebook is used, from how often each code occurs, `(K,)`, in all slices looked at:
    averaged over batches, perplexity would be understated.

    Returns:
        Dictionary: `perplexity`, e to the entropy of the codes' frequencies,
        from 1 to K; `codebook_usage`, the share of the codes that occur at all.
    """
    used = np.asarray(counts, np.float64)[np.asarray(counts) > 0]
    frequencies = used / used.sum()
    return {
        "perplexity": float(np.exp(-np.sum(frequencies * np.log(frequencies)))),
        "codebook_usage": len(used) / len(counts),
    }
