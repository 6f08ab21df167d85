"""Torch form of the reference model: trained here, and the yardstick the exported shards are compared with.

Decoder-only transformer in the Qwen3-MoE layout: RMSNorm, grouped-query attention with rotary positions and
per-head query and key norms, softmax router over all experts, top-k SwiGLU experts, tied embeddings.
Shapes: B batch, T tokens, H hidden, E experts, I expert width, V vocabulary. All float32.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hil_config.errors import DataFileError
from models.architecture import Architecture
from models.checkpoint import read_checkpoint
from models.tensor_file import FloatArray
from models.write_checkpoint import write_checkpoint


def _weight(*shape: int, std: float) -> nn.Parameter:
    return nn.Parameter(torch.randn(*shape) * std)


def _norm(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + epsilon) * weight


def rotary(positions: Tensor, head_dim: int, theta: float) -> tuple[Tensor, Tensor]:
    """Cosine and sine tables [T, head_dim] for integer positions [T]."""
    inverse = theta ** (-torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim)
    angle = positions.to(torch.float32)[:, None] * inverse[None, :]
    angle = torch.cat((angle, angle), dim=-1)
    return angle.cos(), angle.sin()


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    low, high = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-high, low), dim=-1) * sin


class Layer(nn.Module):
    """Attention and a sparse feed-forward network, both on the residual stream."""

    def __init__(self, a: Architecture) -> None:
        super().__init__()
        self.a = a
        std, depth = 0.02, 0.02 / (2 * a.layers) ** 0.5
        self.input_norm = nn.Parameter(torch.ones(a.hidden))
        self.post_norm = nn.Parameter(torch.ones(a.hidden))
        self.q_norm = nn.Parameter(torch.ones(a.head_dim))
        self.k_norm = nn.Parameter(torch.ones(a.head_dim))
        self.q = _weight(a.heads * a.head_dim, a.hidden, std=std)
        self.k = _weight(a.kv_heads * a.head_dim, a.hidden, std=std)
        self.v = _weight(a.kv_heads * a.head_dim, a.hidden, std=std)
        self.o = _weight(a.hidden, a.heads * a.head_dim, std=depth)
        self.router = _weight(a.experts, a.hidden, std=std)
        self.gate_up = _weight(a.experts, 2 * a.expert_width, a.hidden, std=std)
        self.down = _weight(a.experts, a.hidden, a.expert_width, std=depth)

    def attend(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Causal self-attention of [B, T, H]."""
        a = self.a
        batch, length, _ = x.shape
        q = F.linear(x, self.q).view(batch, length, a.heads, a.head_dim)
        k = F.linear(x, self.k).view(batch, length, a.kv_heads, a.head_dim)
        v = F.linear(x, self.v).view(batch, length, a.kv_heads, a.head_dim).transpose(1, 2)
        q = _rotate(_norm(q, self.q_norm, a.epsilon).transpose(1, 2), cos, sin)
        k = _rotate(_norm(k, self.k_norm, a.epsilon).transpose(1, 2), cos, sin)
        repeat = a.heads // a.kv_heads
        k, v = k.repeat_interleave(repeat, dim=1), v.repeat_interleave(repeat, dim=1)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return F.linear(mixed.transpose(1, 2).reshape(batch, length, -1), self.o)

    def route(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Scores [N, E], picks [N, top_k] and mixing weights [N, top_k] for rows [N, H]."""
        scores = F.linear(x, self.router).softmax(dim=-1)
        weights, picks = scores.topk(self.a.top_k, dim=-1)
        if self.a.normalise_top_k:
            weights = weights / weights.sum(dim=-1, keepdim=True)
        return scores, picks, weights

    def experts(self, x: Tensor, picks: Tensor, weights: Tensor) -> tuple[Tensor, list[int]]:
        """Mixed output [N, H] and the rows each expert got [E].

        Rows are sorted by expert so that each expert runs once on a contiguous block.
        """
        flat = picks.flatten()
        order = flat.argsort(stable=True)
        rows = order // self.a.top_k
        counts: list[int] = torch.bincount(flat, minlength=self.a.experts).tolist()
        outputs = []
        blocks = torch.split(x[rows], counts)
        for block, first, second in zip(blocks, self.gate_up.unbind(0), self.down.unbind(0), strict=True):
            gate, up = F.linear(block, first).chunk(2, dim=-1)
            outputs.append(F.linear(F.silu(gate) * up, second))
        weighted = torch.cat(outputs) * weights.flatten()[order, None]
        return torch.zeros_like(x).index_add(0, rows, weighted), counts

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        """New residual stream [B, T, H] and this layer's load-balancing loss (1 when balanced)."""
        a = self.a
        x = x + self.attend(_norm(x, self.input_norm, a.epsilon), cos, sin)
        rows = _norm(x, self.post_norm, a.epsilon).reshape(-1, a.hidden)
        scores, picks, weights = self.route(rows)
        mixed, counts = self.experts(rows, picks, weights)
        share = torch.tensor(counts, dtype=torch.float32) / picks.numel()
        balance = a.experts * (share * scores.mean(0)).sum()
        return x + mixed.view_as(x), balance


class TorchModel(nn.Module):
    """The whole model."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        self.embedding = _weight(architecture.vocabulary, architecture.hidden, std=0.02)
        self.blocks = nn.ModuleList(Layer(architecture) for _ in range(architecture.layers))
        self.final_norm = nn.Parameter(torch.ones(architecture.hidden))

    @classmethod
    def random(cls, architecture: Architecture, seed: int) -> TorchModel:
        """A seeded random model whose greedy text varies.

        Matrices are scaled to keep unit variance and the embedding is small, so that what the layers add
        outweighs the token itself; with tied embeddings the model would otherwise repeat its last token.
        """
        generator = torch.Generator().manual_seed(seed)
        model = cls(architecture)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                noise = torch.randn(parameter.shape, generator=generator)
                if parameter.ndim == 1:
                    parameter.copy_(1 + 0.1 * noise)
                elif name == "embedding":
                    parameter.copy_(0.1 * noise)
                else:
                    parameter.copy_(noise * parameter.shape[-1] ** -0.5)
        return model.eval()

    @classmethod
    def from_checkpoint(cls, folder: Path) -> TorchModel:
        """The model of a checkpoint folder, quantised tensors dequantised."""
        checkpoint = read_checkpoint(folder)
        if not checkpoint.architecture.tied:
            raise DataFileError(f"{folder}: tie_word_embeddings: got false, wanted true", "the torch model ties them")
        model = cls(checkpoint.architecture)
        model.load_named({name: torch.from_numpy(value) for name, value in checkpoint.tensors().items()})
        return model.eval()

    def run(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [B, T, V] and the summed load-balancing loss of tokens [B, T] (int64)."""
        a = self.architecture
        x = F.embedding(tokens, self.embedding)
        cos, sin = rotary(torch.arange(tokens.shape[1]), a.head_dim, a.theta)
        balance = torch.zeros(())
        for block in self.blocks:
            x, loss = block(x, cos, sin)
            balance = balance + loss
        return F.linear(_norm(x, self.final_norm, a.epsilon), self.embedding), balance

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits [T, V] of tokens [T] (int64), all positions at once."""
        return self.run(tokens[None])[0][0]

    @torch.no_grad()
    def generate_greedy(self, tokens: list[int], n: int) -> tuple[list[int], list[float]]:
        """`n` new tokens and, for each, the margin between the best and the second logit."""
        history, margins = list(tokens), []
        for _ in range(n):
            best = self.forward(torch.tensor(history))[-1].topk(2)
            history.append(int(best.indices[0]))
            margins.append(float(best.values[0] - best.values[1]))
        return history[len(tokens) :], margins

    def named(self) -> dict[str, Tensor]:
        """Views of all weights under the tensor names Qwen3-MoE checkpoints use on disk."""
        a = self.architecture
        out = {"model.embed_tokens.weight": self.embedding.data, "model.norm.weight": self.final_norm.data}
        for index, block in enumerate(self.blocks):
            assert isinstance(block, Layer)
            root = f"model.layers.{index}."
            out[root + "input_layernorm.weight"] = block.input_norm.data
            out[root + "post_attention_layernorm.weight"] = block.post_norm.data
            for short in ("q", "k", "v", "o"):
                out[f"{root}self_attn.{short}_proj.weight"] = getattr(block, short).data
            out[root + "self_attn.q_norm.weight"] = block.q_norm.data
            out[root + "self_attn.k_norm.weight"] = block.k_norm.data
            out[root + "mlp.gate.weight"] = block.router.data
            for expert in range(a.experts):
                gate, up = block.gate_up.data[expert].chunk(2)
                out[f"{root}mlp.experts.{expert}.gate_proj.weight"] = gate
                out[f"{root}mlp.experts.{expert}.up_proj.weight"] = up
                out[f"{root}mlp.experts.{expert}.down_proj.weight"] = block.down.data[expert]
        return out

    def load_named(self, values: dict[str, Tensor]) -> None:
        """Copy weights in from disk names; every weight must be there."""
        for name, target in self.named().items():
            target.copy_(values[name])

    def arrays(self) -> dict[str, FloatArray]:
        """Copies of all weights as numpy float32 under their disk names."""
        return {name: np.array(value.numpy(), dtype=np.float32) for name, value in self.named().items()}

    def save(self, folder: Path, name: str, quantised: bool = False) -> None:
        """Write the model as a checkpoint folder."""
        write_checkpoint(folder, self.architecture, self.arrays(), name, quantised)
