"""The published mathematics once more, written plainly and apart from the package: loops, explicit softmax.

Takes weights as plain tensors (a ``state_dict``) and indices as lists; shares no code with ``vjepa_distill``.
"""

import math

import torch


def sincos_axis(p, dim):
    half = dim // 2
    angles = [p / 10000 ** (i / half) for i in range(half)]
    return [math.sin(a) for a in angles] + [math.cos(a) for a in angles]


def sincos_table(grid, dim):
    """[t | h | w], thirds made even, the remainder to w."""
    t, h, w = grid
    third = dim // 3 // 2 * 2
    rows = []
    for i in range(t):
        for j in range(h):
            for k in range(w):
                rows.append(sincos_axis(i, third) + sincos_axis(j, third) + sincos_axis(k, dim - 2 * third))
    return torch.tensor(rows, dtype=torch.float64)


def layer_norm(x, weight=None, bias=None, eps=1e-5):
    mean = x.mean(-1, keepdim=True)
    variance = ((x - mean) ** 2).mean(-1, keepdim=True)
    y = (x - mean) / torch.sqrt(variance + eps)
    return y if weight is None else y * weight + bias


def linear(x, weights, name):
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def gelu(x):
    return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))


def softmax_attention(q, k, v):
    """[n, d], [m, d], [m, d]."""
    scores = q @ k.T / math.sqrt(q.shape[-1])
    weights = torch.exp(scores - scores.max(dim=-1, keepdim=True).values)
    return (weights / weights.sum(-1, keepdim=True)) @ v


def self_attention(x, weights, name, heads):
    """[L, D] of one clip."""
    dim = x.shape[-1]
    q, k, v = linear(x, weights, f"{name}.qkv").split(dim, dim=-1)
    d = dim // heads
    parts = [softmax_attention(q[:, i : i + d], k[:, i : i + d], v[:, i : i + d]) for i in range(0, dim, d)]
    return linear(torch.cat(parts, dim=-1), weights, f"{name}.proj")


def block(x, weights, name, heads):
    normed = layer_norm(x, weights[f"{name}.norm1.weight"], weights[f"{name}.norm1.bias"], 1e-6)
    x = x + self_attention(normed, weights, f"{name}.attention", heads)
    normed = layer_norm(x, weights[f"{name}.norm2.weight"], weights[f"{name}.norm2.bias"], 1e-6)
    return x + linear(gelu(linear(normed, weights, f"{name}.mlp.0")), weights, f"{name}.mlp.2")


def patches(clip, weights, tubelet, normalise):
    """[3, T, H, W] of one clip to [L, D]: one dot product for every tubelet."""
    kernel, bias = weights["patches.weight"], weights["patches.bias"]
    if normalise:
        # the package keeps scale and shift as fp32 buffers: a rounding of 1e-8, repeated here
        mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None, None]
        std = torch.tensor([0.229, 0.224, 0.225])[:, None, None, None]
        clip = clip * (1 / std).double() + (-mean / std).double()
    _, frames, height, width = clip.shape
    a, b, c = tubelet
    tokens = []
    for t in range(0, frames, a):
        for y in range(0, height, b):
            for x in range(0, width, c):
                cube = clip[:, t : t + a, y : y + b, x : x + c]
                tokens.append((kernel * cube).sum(dim=(1, 2, 3, 4)) + bias)
    return torch.stack(tokens)


def encoder(clip, keep, weights, grid, tubelet, depth, heads, normalise):
    """One clip: patchify, positions on the full grid, keep, blocks, final norm."""
    x = patches(clip, weights, tubelet, normalise)
    x = (x + sincos_table(grid, x.shape[-1]))[keep]
    for i in range(depth):
        x = block(x, weights, f"blocks.{i}", heads)
    return layer_norm(x, weights["norm.weight"], weights["norm.bias"], 1e-6)


def predictor(context, keep, query, weights, grid, depth, heads, scaffold):
    """One clip: [K, D] seen at keep, asked at query: [M, D]."""
    width = weights["mask_token"].shape[0]
    seen = linear(context, weights, "embed")
    if scaffold:
        table = linear(sincos_table(grid, context.shape[-1]), weights, "embed_position")
    else:
        table = sincos_table(grid, width)
        seen = seen + table[keep]
    x = torch.cat([seen, weights["mask_token"] + table[query]])
    for i in range(depth):
        x = block(x, weights, f"blocks.{i}", heads)
    x = layer_norm(x, weights["norm.weight"], weights["norm.bias"], 1e-6)[len(keep) :]
    return linear(x, weights, "out")


def outcome(tokens, weights, heads):
    """[K, D] of one clip to [D]: learned queries attend, LayerNorm, x + MLP(x), mean."""
    dim = tokens.shape[-1]
    w, b = weights["attention.in_proj_weight"], weights["attention.in_proj_bias"]
    q = weights["queries"] @ w[:dim].T + b[:dim]
    k = tokens @ w[dim : 2 * dim].T + b[dim : 2 * dim]
    v = tokens @ w[2 * dim :].T + b[2 * dim :]
    d = dim // heads
    parts = [softmax_attention(q[:, i : i + d], k[:, i : i + d], v[:, i : i + d]) for i in range(0, dim, d)]
    x = linear(torch.cat(parts, dim=-1), weights, "attention.out_proj")
    x = layer_norm(x, weights["norm.weight"], weights["norm.bias"])
    x = x + linear(gelu(linear(x, weights, "mlp.0")), weights, "mlp.2")
    return x.mean(0)


def l1(z, target):
    return (z - target).abs().mean()


def unit(x):
    return x / x.norm()


def info_nce(anchors, candidates, labels, allowed, temperature):
    """Mean over rows of -log softmax(cosine / temperature) at the label, over allowed candidates alone."""
    losses = []
    for row, (anchor, label) in enumerate(zip(anchors, labels, strict=True)):
        logits = [unit(anchor) @ unit(c) / temperature for c in candidates]
        total = sum(torch.exp(logit) for j, logit in enumerate(logits) if allowed[row][j])
        losses.append(-(logits[label] - torch.log(total)))
    return sum(losses) / len(losses)
