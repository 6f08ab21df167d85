"""Where sessions run: a provider is used only if it computes, and why not is said. As far as a CPU can tell."""

from __future__ import annotations

import onnxruntime as ort
import pytest

from node_agent.shards.providers import CPU, CUDA, choose_providers, cuda_options, smoke_test

without_cuda = pytest.mark.skipif(CUDA in ort.get_available_providers(), reason="this onnxruntime has CUDA")


def test_cpu_is_what_one_gets_without_asking() -> None:
    assert choose_providers().names == (CPU,)
    assert choose_providers().details() == {"provider": CPU}


@without_cuda
def test_wanting_cuda_where_there_is_none_falls_back_and_says_why() -> None:
    chosen = choose_providers("cuda")
    assert chosen.names == (CPU,)
    assert "CPUExecutionProvider" in chosen.reason and ort.__version__ in chosen.reason
    assert chosen.details()["provider_reason"] == chosen.reason
    assert choose_providers("auto") == choose_providers()


def test_the_smoke_test_passes_where_a_product_is_right_and_names_what_is_wrong() -> None:
    assert smoke_test(CPU, {}) == ""
    assert "NoSuchProvider" in smoke_test("NoSuchProvider", {})


@without_cuda
def test_a_listed_provider_that_does_not_run_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """The list is what a wheel was compiled with: here it lies, as it does on boards without the kernels."""
    monkeypatch.setattr(ort, "get_available_providers", lambda: [CUDA, CPU])
    chosen = choose_providers("cuda")
    assert chosen.names == (CPU,) and CUDA in chosen.reason


def test_the_cuda_arena_is_bounded() -> None:
    assert cuda_options(1 << 30) == {"gpu_mem_limit": "1073741824", "arena_extend_strategy": "kSameAsRequested"}
