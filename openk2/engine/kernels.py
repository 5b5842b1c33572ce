"""One token of every sequence on a CPU, compiled by numba: what ``openk2.model`` does, without a call for every operation.

A small model's decoding step is thousands of tiny products: in PyTorch the calls take longer than the numbers. Here a
layer is two calls, attention reads the cache's pages where they lie, and an expert's weights are read once for all the
tokens that chose it. Float32 throughout. The twin is ``Transformer.hidden`` with a cache; a test holds them together.

Shapes: B sequences, D model, I in, O out, H heads, Q query latent, N width without position, R rotary width, V value
width, C key-value latent, L = C + R, P rotary pairs, W pages of a sequence, G tokens of a page, E experts, K chosen of
a token, F hidden width.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

# Sums may be reordered (that is what vectors are), but infinities and NaN keep their meaning.
_compiled = njit(nogil=True, cache=True, error_model="numpy", fastmath={"reassoc", "contract", "arcp", "nsz"})


@_compiled
def linear(x_BI: Any, w_OI: Any, out_BO: Any) -> None:
    """Write x · wᵀ. Four outputs of two rows at a time: their sums stay in registers."""
    num_rows, width = x_BI.shape
    num_out = w_OI.shape[0]
    for o in range(0, num_out - 3, 4):
        w0, w1, w2, w3 = w_OI[o], w_OI[o + 1], w_OI[o + 2], w_OI[o + 3]
        for b in range(0, num_rows - 1, 2):
            x, y = x_BI[b], x_BI[b + 1]
            s0 = s1 = s2 = s3 = t0 = t1 = t2 = t3 = np.float32(0.0)
            for i in range(width):
                u, v = x[i], y[i]
                s0 += u * w0[i]
                s1 += u * w1[i]
                s2 += u * w2[i]
                s3 += u * w3[i]
                t0 += v * w0[i]
                t1 += v * w1[i]
                t2 += v * w2[i]
                t3 += v * w3[i]
            out_BO[b, o], out_BO[b, o + 1], out_BO[b, o + 2], out_BO[b, o + 3] = s0, s1, s2, s3
            out_BO[b + 1, o], out_BO[b + 1, o + 1], out_BO[b + 1, o + 2], out_BO[b + 1, o + 3] = t0, t1, t2, t3
        if num_rows % 2:
            x = x_BI[num_rows - 1]
            s0 = s1 = s2 = s3 = np.float32(0.0)
            for i in range(width):
                u = x[i]
                s0 += u * w0[i]
                s1 += u * w1[i]
                s2 += u * w2[i]
                s3 += u * w3[i]
            b = num_rows - 1
            out_BO[b, o], out_BO[b, o + 1], out_BO[b, o + 2], out_BO[b, o + 3] = s0, s1, s2, s3
    for o in range(num_out - num_out % 4, num_out):
        for b in range(num_rows):
            out_BO[b, o] = _dot(x_BI[b], w_OI[o])


@_compiled
def _dot(x_I: Any, y_I: Any) -> Any:
    total = np.float32(0.0)
    for i in range(x_I.shape[0]):
        total += x_I[i] * y_I[i]
    return total


@_compiled
def rms_norm(x_BD: Any, weight_D: Any, eps: Any, out_BD: Any) -> None:
    """The input over its root mean square, times the gain."""
    width = x_BD.shape[1]
    for b in range(x_BD.shape[0]):
        x = x_BD[b]
        scale = np.float32(1.0) / np.sqrt(_dot(x, x) / np.float32(width) + eps)
        for d in range(width):
            out_BD[b, d] = x[d] * scale * weight_D[d]


@_compiled
def _turn(x_R: Any, cos_P: Any, sin_P: Any) -> None:
    """Rotate each pair (2p, 2p+1) in place."""
    for p in range(cos_P.shape[0]):
        first, second = x_R[2 * p], x_R[2 * p + 1]
        x_R[2 * p] = first * cos_P[p] - second * sin_P[p]
        x_R[2 * p + 1] = second * cos_P[p] + first * sin_P[p]


@_compiled
def attend(
    q_BHK: Any,
    kv_HXC: Any,
    latents_PGL: Any,
    pages_BW: Any,
    lengths_B: Any,
    nope: int,
    scale: Any,
    scores_S: Any,
    out_BHV: Any,
) -> None:
    """Absorbed attention of the last token of each sequence over its pages; ``q`` holds rotated queries."""
    num_heads, wide, latent = kv_HXC.shape
    page_tokens, rope = latents_PGL.shape[1], q_BHK.shape[2] - nope
    query, context = np.empty(latent + rope, np.float32), np.empty(latent, np.float32)
    for b in range(q_BHK.shape[0]):
        length = lengths_B[b]
        for h in range(num_heads):
            query[:latent] = 0.0
            for n in range(nope):
                factor = q_BHK[b, h, n] * scale
                row = kv_HXC[h, n]
                for c in range(latent):
                    query[c] += factor * row[c]
            for r in range(rope):
                query[latent + r] = q_BHK[b, h, nope + r] * scale
            largest = np.float32(-np.inf)
            for s in range(length):
                score = _dot(query, latents_PGL[pages_BW[b, s // page_tokens], s % page_tokens])
                scores_S[s] = score
                largest = max(largest, score)
            total = np.float32(0.0)
            for s in range(length):
                scores_S[s] = np.exp(scores_S[s] - largest)
                total += scores_S[s]
            context[:] = 0.0
            for s in range(length):
                weight = scores_S[s]
                row = latents_PGL[pages_BW[b, s // page_tokens], s % page_tokens]
                for c in range(latent):
                    context[c] += weight * row[c]
            for v in range(wide - nope):
                out_BHV[b, h, v] = _dot(context, kv_HXC[h, nope + v]) / total


@_compiled
def attention(
    x_BD: Any,
    input_norm_D: Any,
    eps: Any,
    q_a_QD: Any,
    q_a_norm_Q: Any,
    q_OQ: Any,
    kv_a_LD: Any,
    kv_a_norm_C: Any,
    latent_eps: Any,
    kv_HXC: Any,
    o_DO: Any,
    cos_BP: Any,
    sin_BP: Any,
    latents_PGL: Any,
    pages_BW: Any,
    lengths_B: Any,
    nope: int,
    scale: Any,
) -> None:
    """Add MLA(norm(x)) to x, for one new token a sequence; its latent goes into the cache. ``q_a`` of no rows: no latent queries."""
    num_rows, width = x_BD.shape
    num_heads, wide, latent = kv_HXC.shape
    rope, page_tokens = kv_a_LD.shape[0] - latent, latents_PGL.shape[1]
    normed_BD = np.empty((num_rows, width), np.float32)
    rms_norm(x_BD, input_norm_D, eps, normed_BD)
    q_BO = np.empty((num_rows, q_OQ.shape[0]), np.float32)
    if q_a_QD.shape[0]:
        q_BQ = np.empty((num_rows, q_a_QD.shape[0]), np.float32)
        linear(normed_BD, q_a_QD, q_BQ)
        rms_norm(q_BQ, q_a_norm_Q, latent_eps, q_BQ)
        linear(q_BQ, q_OQ, q_BO)
    else:
        linear(normed_BD, q_OQ, q_BO)
    kv_BL = np.empty((num_rows, latent + rope), np.float32)
    linear(normed_BD, kv_a_LD, kv_BL)
    q_BHK = q_BO.reshape((num_rows, num_heads, nope + rope))
    for b in range(num_rows):
        position = lengths_B[b] - 1
        place = latents_PGL[pages_BW[b, position // page_tokens], position % page_tokens]
        rms_norm(kv_BL[b : b + 1, :latent], kv_a_norm_C, latent_eps, place[:latent].reshape((1, latent)))
        _turn(kv_BL[b, latent:], cos_BP[b], sin_BP[b])
        place[latent:] = kv_BL[b, latent:]
        for h in range(num_heads):
            _turn(q_BHK[b, h, nope:], cos_BP[b], sin_BP[b])
    out_BHV = np.empty((num_rows, num_heads, wide - nope), np.float32)
    scores_S = np.empty(lengths_B.max(), np.float32)
    attend(q_BHK, kv_HXC, latents_PGL, pages_BW, lengths_B, nope, scale, scores_S, out_BHV)
    linear(out_BHV.reshape((num_rows, num_heads * (wide - nope))), o_DO, normed_BD)
    x_BD += normed_BD


@_compiled
def _swiglu(gate_up_BX: Any, out_BF: Any) -> None:
    width = out_BF.shape[1]
    for b in range(out_BF.shape[0]):
        for f in range(width):
            gate = gate_up_BX[b, f]
            out_BF[b, f] = gate / (np.float32(1.0) + np.exp(-gate)) * gate_up_BX[b, width + f]


@_compiled
def feed_forward(x_BD: Any, gate_up_XD: Any, down_DF: Any, out_BD: Any) -> None:
    """Write down(silu(gate(x)) · up(x))."""
    gate_up_BX = np.empty((x_BD.shape[0], gate_up_XD.shape[0]), np.float32)
    hidden_BF = np.empty((x_BD.shape[0], down_DF.shape[1]), np.float32)
    linear(x_BD, gate_up_XD, gate_up_BX)
    _swiglu(gate_up_BX, hidden_BF)
    linear(hidden_BF, down_DF, out_BD)


@_compiled
def dense(x_BD: Any, norm_D: Any, eps: Any, gate_up_XD: Any, down_DF: Any) -> None:
    """Add SwiGLU(norm(x)) to x."""
    normed_BD, out_BD = np.empty_like(x_BD), np.empty_like(x_BD)
    rms_norm(x_BD, norm_D, eps, normed_BD)
    feed_forward(normed_BD, gate_up_XD, down_DF, out_BD)
    x_BD += out_BD


@_compiled
def route(
    x_BD: Any,
    router_ED: Any,
    bias_E: Any,
    num_groups: int,
    num_groups_kept: int,
    factor: Any,
    chosen_BK: Any,
    gates_BK: Any,
) -> None:
    """Sigmoid scores; the best by score + bias, from the best groups where there are groups; gates of sum ``factor``."""
    num_experts, num_chosen = router_ED.shape[0], chosen_BK.shape[1]
    scores_BE = np.empty((x_BD.shape[0], num_experts), np.float32)
    linear(x_BD, router_ED, scores_BE)
    biased_E, group_scores_G = np.empty(num_experts, np.float32), np.empty(num_groups, np.float32)
    taken_E = np.empty(num_experts, np.bool_)
    size = num_experts // num_groups
    for b in range(x_BD.shape[0]):
        for e in range(num_experts):
            scores_BE[b, e] = np.float32(1.0) / (np.float32(1.0) + np.exp(-scores_BE[b, e]))
            biased_E[e] = scores_BE[b, e] + bias_E[e]
        if num_groups > 1:
            for g in range(num_groups):
                best = second = np.float32(-np.inf)
                for e in range(g * size, (g + 1) * size):
                    if biased_E[e] > best:
                        best, second = biased_E[e], best
                    elif biased_E[e] > second:
                        second = biased_E[e]
                group_scores_G[g] = best + second
            for _ in range(num_groups - num_groups_kept):
                worst = np.argmin(group_scores_G)
                group_scores_G[worst] = np.inf
                biased_E[worst * size : (worst + 1) * size] = -np.inf
        taken_E[:] = False
        total = np.float32(1e-20)
        for k in range(num_chosen):
            expert = -1
            for e in range(num_experts):  # never one twice, whatever the biases are
                if not taken_E[e] and (expert < 0 or biased_E[e] > biased_E[expert]):
                    expert = e
            taken_E[expert] = True
            chosen_BK[b, k] = expert
            gates_BK[b, k] = scores_BE[b, expert]
            total += scores_BE[b, expert]
        for k in range(num_chosen):
            gates_BK[b, k] *= factor / total


@_compiled
def mixture(
    x_BD: Any,
    norm_D: Any,
    eps: Any,
    router_ED: Any,
    bias_E: Any,
    num_groups: int,
    num_groups_kept: int,
    factor: Any,
    gate_up_EXD: Any,
    down_EDF: Any,
    shared_gate_up_XD: Any,
    shared_down_DF: Any,
    chosen_BK: Any,
) -> None:
    """Add MoE(norm(x)) to x; the choices go to ``chosen``. ``shared_down`` of no columns: no shared expert."""
    num_rows, width = x_BD.shape
    num_chosen = chosen_BK.shape[1]
    normed_BD, out_BD = np.empty_like(x_BD), np.empty_like(x_BD)
    gates_BK = np.empty((num_rows, num_chosen), np.float32)
    rms_norm(x_BD, norm_D, eps, normed_BD)
    route(normed_BD, router_ED, bias_E, num_groups, num_groups_kept, factor, chosen_BK, gates_BK)
    if shared_down_DF.shape[1]:
        feed_forward(normed_BD, shared_gate_up_XD, shared_down_DF, out_BD)
        x_BD += out_BD
    mine_B, gate_B = np.empty(num_rows, np.int64), np.empty(num_rows, np.float32)
    rows_BD = np.empty((num_rows, width), np.float32)
    for expert in range(gate_up_EXD.shape[0]):
        count = 0
        for b in range(num_rows):
            for k in range(num_chosen):
                if chosen_BK[b, k] == expert:
                    mine_B[count], gate_B[count] = b, gates_BK[b, k]
                    rows_BD[count] = normed_BD[b]
                    count += 1
        if count:
            feed_forward(rows_BD[:count], gate_up_EXD[expert], down_EDF[expert], out_BD[:count])
            for i in range(count):
                gate, b = gate_B[i], mine_B[i]
                for d in range(width):
                    x_BD[b, d] += gate * out_BD[i, d]
