"""Decode rate of llama.cpp in one process, through its Python binding (extra `bench`)."""

from __future__ import annotations

import ctypes
import sys
import time
from pathlib import Path

import numpy as np


def decode_ms(path: Path, threads: int, tokens: int) -> list[float]:
    """Milliseconds of each of `tokens` decoded tokens from an empty context (as llama-bench tg), after a warm-up."""
    import llama_cpp as llama

    silent = llama.llama_log_callback(lambda level, text, data: None)
    llama.llama_log_set(silent, ctypes.c_void_p(0))
    llama.llama_backend_init()
    model = llama.llama_model_load_from_file(str(path).encode(), llama.llama_model_default_params())
    if not model:
        raise SystemExit(f"error: llama.cpp does not load {path}")
    options = llama.llama_context_default_params()
    options.n_ctx, options.n_batch = 512, 64
    options.n_threads = options.n_threads_batch = threads
    context = llama.llama_init_from_model(model, options)
    vocabulary = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(model))
    rng = np.random.default_rng(1)
    found: list[float] = []
    for warm in (True, False):
        llama.llama_memory_clear(llama.llama_get_memory(context), True)
        for _ in range(tokens):
            begin_s = time.perf_counter()
            token = (llama.llama_token * 1)(int(rng.integers(vocabulary)))
            if llama.llama_decode(context, llama.llama_batch_get_one(token, 1)):
                raise SystemExit("error: llama.cpp failed to decode")
            llama.llama_synchronize(context)
            np.ctypeslib.as_array(llama.llama_get_logits(context), (vocabulary,)).argmax()
            if not warm:
                found.append((time.perf_counter() - begin_s) * 1e3)
    llama.llama_free(context)
    llama.llama_model_free(model)
    return found


if __name__ == "__main__":
    for ms in decode_ms(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])):
        print(ms)
