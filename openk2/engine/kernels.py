"""One token of many sequences on a CPU, compiled by numba: what ``openk2.model`` does, in one call for all layers.

A small model's decoding step is thousands of tiny products: in PyTorch the calls take longer than the numbers. Here
attention reads the cache's pages where they lie, and an expert's weights are read once for all the tokens that chose
it. A prompt's tokens are so many sequences that share their pages: each writes its latent before any is read. Threads
share the tokens, then the experts, then the vocabulary, and meet in between; whatever their number, the sums are the
same. Weights are float32 or bfloat16, all else is float32. The twin is ``Transformer.hidden`` with a cache.

Shapes: T tokens, D model, I in, O out, H heads, Q query latent, K = N + R width of a query (N without position, R
rotary), V value width, X = N + V, C key-value latent, L = C + R, P rotary pairs, W pages of a sequence, G tokens of
a page, S positions, E experts, J chosen of a token, F hidden width, Y = 2F gate and up, Z vocabulary, A answers
wanted, M layers.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from openk2.engine.intrinsics import claim, compiled, exp, matrix, meet, prefetch, store, vector, widened

# Rows of the head that a thread takes at a time.
_VOCABULARY_BLOCK = 256

# Of a model, what is the same in all its layers.
SHAPE = np.dtype(
    [
        *((name, np.int64) for name in ("hidden", "heads", "query_latent", "nope", "rope", "value", "latent")),
        *((name, np.int64) for name in ("intermediate", "expert", "shared", "experts", "groups", "groups_kept")),
        *((name, np.float32) for name in ("eps", "latent_eps", "softmax_scale", "gate_sum")),
    ],
    align=True,
)
# Where the weights of a layer lie; 0 for what it does not have.
LAYER = np.dtype(
    [
        (name, np.int64)
        for name in (
            *("input_norm", "q_a", "q_a_norm", "q", "kv_a", "kv_a_norm", "kv_b", "o", "post_norm"),
            *("gate_up", "down", "router", "bias", "expert_gate_up", "expert_down", "shared_gate_up", "shared_down"),
        )
    ]
)


# -- products ---------------------------------------------------------------------------------


@compiled
def linear(x_TI: Any, w_OI: Any, out_TO: Any) -> None:
    """Write x · wᵀ. Four outputs of two rows at a time: their sums stay in registers.

    The four rows after them are asked for meanwhile: with few rows of x, memory is what a product waits for.
    """
    num_rows, width = x_TI.shape
    num_out = w_OI.shape[0]
    for o in range(0, num_out - 3, 4):
        w0, w1, w2, w3 = w_OI[o], w_OI[o + 1], w_OI[o + 2], w_OI[o + 3]
        prefetch(w_OI, o + 4, min(o + 8, num_out))
        for t in range(0, num_rows - 1, 2):
            x, y = x_TI[t], x_TI[t + 1]
            s0 = s1 = s2 = s3 = t0 = t1 = t2 = t3 = np.float32(0.0)
            for i in range(width):
                u, v = x[i], y[i]
                a, b, c, d = widened(w0[i]), widened(w1[i]), widened(w2[i]), widened(w3[i])
                s0 += u * a
                s1 += u * b
                s2 += u * c
                s3 += u * d
                t0 += v * a
                t1 += v * b
                t2 += v * c
                t3 += v * d
            out_TO[t, o], out_TO[t, o + 1], out_TO[t, o + 2], out_TO[t, o + 3] = s0, s1, s2, s3
            out_TO[t + 1, o], out_TO[t + 1, o + 1], out_TO[t + 1, o + 2], out_TO[t + 1, o + 3] = t0, t1, t2, t3
        if num_rows % 2:
            t = num_rows - 1
            x = x_TI[t]
            s0 = s1 = s2 = s3 = np.float32(0.0)
            for i in range(width):
                u = x[i]
                s0 += u * widened(w0[i])
                s1 += u * widened(w1[i])
                s2 += u * widened(w2[i])
                s3 += u * widened(w3[i])
            out_TO[t, o], out_TO[t, o + 1], out_TO[t, o + 2], out_TO[t, o + 3] = s0, s1, s2, s3
    for o in range(num_out - num_out % 4, num_out):
        w = w_OI[o]
        for t in range(num_rows):
            x = x_TI[t]
            total = np.float32(0.0)
            for i in range(width):
                total += x[i] * widened(w[i])
            out_TO[t, o] = total


@compiled
def accumulate(x_TI: Any, w_IO: Any, out_TO: Any, width: int) -> None:
    """Add x · w to the first ``width`` columns. Four rows of w at a time."""
    num_in = w_IO.shape[0]
    for t in range(x_TI.shape[0]):
        out = out_TO[t]
        for i in range(0, num_in - 3, 4):
            w0, w1, w2, w3 = w_IO[i], w_IO[i + 1], w_IO[i + 2], w_IO[i + 3]
            a, b, c, d = x_TI[t, i], x_TI[t, i + 1], x_TI[t, i + 2], x_TI[t, i + 3]
            for o in range(width):
                out[o] += a * widened(w0[o]) + b * widened(w1[o]) + c * widened(w2[o]) + d * widened(w3[o])
        for i in range(num_in - num_in % 4, num_in):
            w, a = w_IO[i], x_TI[t, i]
            for o in range(width):
                out[o] += a * widened(w[o])


@compiled
def rms_norm(x_TD: Any, weight_D: Any, eps: Any, out_TD: Any) -> None:
    """The input over its root mean square, times the gain."""
    width = weight_D.shape[0]
    for t in range(x_TD.shape[0]):
        x, out = x_TD[t], out_TD[t]
        total = np.float32(0.0)
        for d in range(width):
            total += x[d] * x[d]
        scale = np.float32(1.0) / np.sqrt(total / np.float32(width) + eps)
        for d in range(width):
            out[d] = x[d] * scale * widened(weight_D[d])


# -- attention --------------------------------------------------------------------------------


@compiled
def _turn(x_R: Any, cos_P: Any, sin_P: Any) -> None:
    """Rotate each pair (2p, 2p+1) in place."""
    for p in range(cos_P.shape[0]):
        first, second = x_R[2 * p], x_R[2 * p + 1]
        x_R[2 * p] = first * cos_P[p] - second * sin_P[p]
        x_R[2 * p + 1] = second * cos_P[p] + first * sin_P[p]


@compiled
def attend(
    q_THK: Any, kv_HXC: Any, latents_PGL: Any, pages_TW: Any, lengths_T: Any, nope: int, scale: Any, out_THV: Any
) -> None:
    """Absorbed attention of each token to its sequence up to itself; ``q`` holds rotated queries."""
    num_tokens, num_heads, width = q_THK.shape
    latent, page_tokens = kv_HXC.shape[2], latents_PGL.shape[1]
    rope = width - nope
    query_HTL = np.zeros((num_heads, num_tokens, latent + rope), np.float32)
    context_HTC = np.empty((num_heads, num_tokens, latent), np.float32)
    for h in range(num_heads):
        accumulate(q_THK[:, h, :nope], kv_HXC[h, :nope], query_HTL[h], latent)
        for t in range(num_tokens):
            for r in range(rope):
                query_HTL[h, t, latent + r] = q_THK[t, h, nope + r]
    query_HL, context_HC = np.empty((num_heads, latent + rope), np.float32), np.empty((num_heads, latent), np.float32)
    scores_HS = np.empty((num_heads, -(-lengths_T.max() // page_tokens) * page_tokens), np.float32)
    for t in range(num_tokens):
        length = lengths_T[t]
        num_pages = -(-length // page_tokens)
        for h in range(num_heads):
            for i in range(latent + rope):
                query_HL[h, i] = query_HTL[h, t, i] * scale
        for w in range(num_pages):
            start = w * page_tokens
            stop = min(length, start + page_tokens)
            linear(query_HL, latents_PGL[pages_TW[t, w], : stop - start], scores_HS[:, start:stop])
        for h in range(num_heads):
            scores_S = scores_HS[h]
            largest, total = np.float32(-np.inf), np.float32(0.0)
            for s in range(length):
                largest = max(largest, scores_S[s])
            for s in range(length):
                scores_S[s] = exp(scores_S[s] - largest)
                total += scores_S[s]
            for s in range(length):
                scores_S[s] /= total
        context_HC[:] = 0.0
        for w in range(num_pages):
            start = w * page_tokens
            stop = min(length, start + page_tokens)
            accumulate(scores_HS[:, start:stop], latents_PGL[pages_TW[t, w], : stop - start], context_HC, latent)
        context_HTC[:, t] = context_HC
    for h in range(num_heads):
        linear(context_HTC[h], kv_HXC[h, nope:], out_THV[:, h])


@compiled
def _attention(
    shape: Any,
    layer: Any,
    like: Any,
    x_TD: Any,
    cos_SP: Any,
    sin_SP: Any,
    latents_PGL: Any,
    pages_TW: Any,
    lengths_T: Any,
    meeting: Any,
    num_threads: int,
) -> bool:
    """Add MLA(norm(x)) to x; latents go into the cache, and all threads' are there before any is read.

    False when another thread gave up.
    """
    s = shape
    num_tokens, width, page_tokens = x_TD.shape[0], s.nope + s.rope, latents_PGL.shape[1]
    normed_TD = np.empty_like(x_TD)
    rms_norm(x_TD, vector(layer.input_norm, s.hidden, like), s.eps, normed_TD)
    q_TO = np.empty((num_tokens, s.heads * width), np.float32)
    if s.query_latent:
        q_TQ = np.empty((num_tokens, s.query_latent), np.float32)
        linear(normed_TD, matrix(layer.q_a, s.query_latent, s.hidden, like), q_TQ)
        rms_norm(q_TQ, vector(layer.q_a_norm, s.query_latent, like), s.latent_eps, q_TQ)
        linear(q_TQ, matrix(layer.q, s.heads * width, s.query_latent, like), q_TO)
    else:
        linear(normed_TD, matrix(layer.q, s.heads * width, s.hidden, like), q_TO)
    kv_TL = np.empty((num_tokens, s.latent + s.rope), np.float32)
    linear(normed_TD, matrix(layer.kv_a, s.latent + s.rope, s.hidden, like), kv_TL)
    rms_norm(kv_TL, vector(layer.kv_a_norm, s.latent, like), s.latent_eps, kv_TL)
    q_THK = q_TO.reshape((num_tokens, s.heads, width))
    for t in range(num_tokens):
        position = lengths_T[t] - 1
        _turn(kv_TL[t, s.latent :], cos_SP[position], sin_SP[position])
        for h in range(s.heads):
            _turn(q_THK[t, h, s.nope :], cos_SP[position], sin_SP[position])
        place_L = latents_PGL[pages_TW[t, position // page_tokens], position % page_tokens]
        for i in range(s.latent + s.rope):
            store(place_L, i, kv_TL[t, i])
    if not meet(meeting, num_threads):
        return False
    if not num_tokens:
        return True
    kv_HXC = matrix(layer.kv_b, s.heads * (s.nope + s.value), s.latent, like)
    out_THV = np.empty((num_tokens, s.heads, s.value), np.float32)
    attend(
        q_THK,
        kv_HXC.reshape((s.heads, s.nope + s.value, s.latent)),
        latents_PGL,
        pages_TW,
        lengths_T,
        s.nope,
        s.softmax_scale,
        out_THV,
    )
    out_TO = out_THV.reshape((num_tokens, s.heads * s.value))
    linear(out_TO, matrix(layer.o, s.hidden, s.heads * s.value, like), normed_TD)
    x_TD += normed_TD
    return True


# -- feed-forward -----------------------------------------------------------------------------


@compiled
def feed_forward(x_TD: Any, gate_up_YD: Any, down_DF: Any, out_TD: Any) -> None:
    """Write down(silu(gate(x)) · up(x))."""
    width = down_DF.shape[1]
    gate_up_TY = np.empty((x_TD.shape[0], 2 * width), np.float32)
    hidden_TF = np.empty((x_TD.shape[0], width), np.float32)
    linear(x_TD, gate_up_YD, gate_up_TY)
    for t in range(x_TD.shape[0]):
        for f in range(width):
            gate = gate_up_TY[t, f]
            hidden_TF[t, f] = gate / (np.float32(1.0) + exp(-gate)) * gate_up_TY[t, width + f]
    linear(hidden_TF, down_DF, out_TD)


@compiled
def _dense(shape: Any, layer: Any, like: Any, x_TD: Any) -> None:
    """Add SwiGLU(norm(x)) to x."""
    s = shape
    normed_TD, out_TD = np.empty_like(x_TD), np.empty_like(x_TD)
    rms_norm(x_TD, vector(layer.post_norm, s.hidden, like), s.eps, normed_TD)
    gate_up_YD = matrix(layer.gate_up, 2 * s.intermediate, s.hidden, like)
    feed_forward(normed_TD, gate_up_YD, matrix(layer.down, s.hidden, s.intermediate, like), out_TD)
    x_TD += out_TD


@compiled
def route(
    x_TD: Any, router_ED: Any, bias_E: Any, groups: int, groups_kept: int, gate_sum: Any, chosen_TJ: Any, gates_TJ: Any
) -> None:
    """Sigmoid scores; the best by score + bias, from the best groups where there are groups; gates add up to ``gate_sum``."""
    num_experts, num_chosen = router_ED.shape[0], chosen_TJ.shape[1]
    scores_TE = np.empty((x_TD.shape[0], num_experts), np.float32)
    linear(x_TD, router_ED, scores_TE)
    biased_E, group_scores = np.empty(num_experts, np.float32), np.empty(groups, np.float32)
    taken_E = np.empty(num_experts, np.bool_)
    size = num_experts // groups
    for t in range(x_TD.shape[0]):
        for e in range(num_experts):
            scores_TE[t, e] = np.float32(1.0) / (np.float32(1.0) + exp(-scores_TE[t, e]))
            biased_E[e] = scores_TE[t, e] + widened(bias_E[e])
        if groups > 1:
            for g in range(groups):
                best = second = np.float32(-np.inf)
                for e in range(g * size, (g + 1) * size):
                    if biased_E[e] > best:
                        best, second = biased_E[e], best
                    elif biased_E[e] > second:
                        second = biased_E[e]
                group_scores[g] = best + second
            for _ in range(groups - groups_kept):
                worst = np.argmin(group_scores)
                group_scores[worst] = np.inf
                biased_E[worst * size : (worst + 1) * size] = -np.inf
        taken_E[:] = False
        total = np.float32(1e-20)
        for j in range(num_chosen):
            expert = -1
            for e in range(num_experts):  # never one twice, whatever the biases are
                if not taken_E[e] and (expert < 0 or biased_E[e] > biased_E[expert]):
                    expert = e
            taken_E[expert] = True
            chosen_TJ[t, j] = expert
            gates_TJ[t, j] = scores_TE[t, expert]
            total += scores_TE[t, expert]
        for j in range(num_chosen):
            gates_TJ[t, j] *= gate_sum / total


@compiled
def _by_expert(chosen_TJ: Any, num_experts: int) -> tuple[Any, Any]:
    """Choices in the order of their experts, as numbers t·J + j, and where each expert's begin, [E + 1]."""
    num_chosen = chosen_TJ.shape[1]
    starts_E, order = np.zeros(num_experts + 1, np.int64), np.empty(chosen_TJ.size, np.int64)
    for t in range(chosen_TJ.shape[0]):
        for j in range(num_chosen):
            starts_E[chosen_TJ[t, j] + 1] += 1
    starts_E = np.cumsum(starts_E)
    next_E = starts_E.copy()
    for t in range(chosen_TJ.shape[0]):
        for j in range(num_chosen):
            expert = chosen_TJ[t, j]
            order[next_E[expert]] = t * num_chosen + j
            next_E[expert] += 1
    return order, starts_E


@compiled
def _mixture(
    shape: Any,
    layer: Any,
    like: Any,
    like_bias: Any,
    x_TD: Any,
    first: int,
    last: int,
    normed_TD: Any,
    gates_TJ: Any,
    chosen_TJ: Any,
    outs_TJD: Any,
    claims: Any,
    number: int,
    meeting: Any,
    num_threads: int,
) -> bool:
    """Add MoE(norm(x)) to this thread's tokens, first to last; the threads share out all the experts of all tokens.

    ``outs`` has a place for each choice and one more, for the shared expert. What an expert gives lies there until its
    token's thread adds it up, in the order of the choices: no sum depends on who was faster. False when another thread
    gave up.
    """
    s = shape
    num_chosen = chosen_TJ.shape[1]
    rms_norm(x_TD[first:last], vector(layer.post_norm, s.hidden, like), s.eps, normed_TD[first:last])
    router_ED, bias_E = matrix(layer.router, s.experts, s.hidden, like), vector(layer.bias, s.experts, like_bias)
    mine = slice(first, last)
    route(normed_TD[mine], router_ED, bias_E, s.groups, s.groups_kept, s.gate_sum, chosen_TJ[mine], gates_TJ[mine])
    if not meet(meeting, num_threads):
        return False
    order, starts_E = _by_expert(chosen_TJ, s.experts)
    rows_TD, out_TD = np.empty_like(normed_TD), np.empty_like(normed_TD)
    gate_up = matrix(layer.expert_gate_up, s.experts * 2 * s.expert, s.hidden, like)
    down = matrix(layer.expert_down, s.experts * s.hidden, s.expert, like)
    while True:
        expert = claim(claims, number) - 1  # the shared one first: it has the most tokens
        if expert >= s.experts:
            break
        if expert < 0:
            if s.shared:
                shared_gate_up_YD = matrix(layer.shared_gate_up, 2 * s.shared, s.hidden, like)
                feed_forward(normed_TD, shared_gate_up_YD, matrix(layer.shared_down, s.hidden, s.shared, like), out_TD)
                outs_TJD[:, num_chosen] = out_TD
            continue
        begin, count = starts_E[expert], starts_E[expert + 1] - starts_E[expert]
        if not count:
            continue
        for i in range(count):
            rows_TD[i] = normed_TD[order[begin + i] // num_chosen]
        gate_up_YD = gate_up[expert * 2 * s.expert : (expert + 1) * 2 * s.expert]
        feed_forward(rows_TD[:count], gate_up_YD, down[expert * s.hidden : (expert + 1) * s.hidden], out_TD[:count])
        for i in range(count):
            choice = order[begin + i]
            outs_TJD[choice // num_chosen, choice % num_chosen] = out_TD[i]
    if not meet(meeting, num_threads):
        return False
    for t in range(first, last):
        x = x_TD[t]
        for j in range(num_chosen):
            gate, out = gates_TJ[t, j], outs_TJD[t, j]
            for d in range(s.hidden):
                x[d] += gate * out[d]
        if s.shared:
            out = outs_TJD[t, num_chosen]
            for d in range(s.hidden):
                x[d] += out[d]
    return True


# -- the step ---------------------------------------------------------------------------------


@compiled
def step(
    shape: Any,
    layers_M: Any,
    like: Any,
    like_bias: Any,
    norm_D: Any,
    head_ZD: Any,
    x_TD: Any,
    cos_SP: Any,
    sin_SP: Any,
    latents_MPGL: Any,
    pages_TW: Any,
    lengths_T: Any,
    chosen_MTJ: Any,
    normed_TD: Any,
    gates_TJ: Any,
    outs_TJD: Any,
    wanted_A: Any,
    logits_AZ: Any,
    claims: Any,
    meeting: Any,
    thread: int,
    num_threads: int,
) -> None:
    """One thread's part of a forward pass. ``x`` holds embeddings; ``wanted`` says which tokens' logits to write.

    It ends early when another thread has given up: what that one left undone must not be read, indices least of all.
    ``claims``: int64 [M + 1], zeros. ``normed``, ``gates`` and ``outs`` are room to work in, which threads share.
    """
    # Products take two rows at a time: the same two, whoever takes them.
    num_tokens = x_TD.shape[0]
    first = num_tokens * thread // num_threads // 2 * 2
    last = num_tokens if thread == num_threads - 1 else num_tokens * (thread + 1) // num_threads // 2 * 2
    mine_TD = x_TD[first:last]
    for number in range(layers_M.shape[0]):
        layer = layers_M[number]
        going = _attention(
            shape, layer, like, mine_TD, cos_SP, sin_SP, latents_MPGL[number],
            pages_TW[first:last], lengths_T[first:last], meeting, num_threads,
        )  # fmt: skip
        if going and layer.router:
            going = _mixture(
                shape, layer, like, like_bias, x_TD, first, last, normed_TD, gates_TJ, chosen_MTJ[number], outs_TJD,
                claims, number, meeting, num_threads,
            )  # fmt: skip
        elif going:
            _dense(shape, layer, like, mine_TD)
        if not going:
            return
    if not meet(meeting, num_threads):
        return
    rows_AD = np.empty((wanted_A.shape[0], shape.hidden), np.float32)
    for a in range(wanted_A.shape[0]):
        rows_AD[a] = x_TD[wanted_A[a]]
    rms_norm(rows_AD, norm_D, shape.eps, rows_AD)
    while True:
        begin = claim(claims, layers_M.shape[0]) * _VOCABULARY_BLOCK
        if begin >= head_ZD.shape[0]:
            break
        end = min(begin + _VOCABULARY_BLOCK, head_ZD.shape[0])
        linear(rows_AD, head_ZD[begin:end], logits_AZ[:, begin:end])
