"""Golden trajectories of optax for settings that the other sets leave at their defaults.

usage: python generate.py OUTDIR     (made with jax 0.10.2, optax 0.2.8, numpy, CPU f32)

`config` in the manifest is written as in a recipe, so the reader needs no table of names.
"""
import json, pathlib, sys
import jax, jax.numpy as jnp, numpy as np, optax
from optax.contrib import MuonDimensionNumbers, muon
from safetensors.numpy import save_file

SHAPES = {"bias": ((7,), 0.1), "conv": ((3, 3, 2, 4), 0.2), "matrix": ((6, 5), 0.3), "scalar": ((), 1.0),
          "square": ((4, 4), 0.2), "tall": ((12, 3), 0.2), "zeros": ((3, 4), 0.0)}
STEPS, NUM_STEPS = 12, 100


def make_inputs(seed):
    r = np.random.RandomState(seed)
    params = {k: np.asarray(r.randn(*s) * sc, np.float32) for k, (s, sc) in SHAPES.items()}
    grads = []
    for t in range(STEPS):
        scale = 10.0 ** r.uniform(-3, 1)
        g = {k: np.asarray(r.randn(*s) * scale, np.float32) for k, (s, _) in SHAPES.items()}
        if t == 4:
            g = {k: np.zeros_like(v) for k, v in g.items()}
        if t == 7:
            g = {k: np.asarray(v * 1e6, np.float32) for k, v in g.items()}
        grads.append(g)
    return params, grads


def piecewise_linear(times, values):
    return lambda count: jnp.interp(count.astype(jnp.float32), jnp.asarray(times, jnp.float32),
                                    jnp.asarray(values, jnp.float32))


def inverse_sqrt(peak, warmup):
    def rate(count):
        s, w = jnp.maximum(count.astype(jnp.float32), 1), jnp.float32(warmup)
        return peak * jnp.minimum(s / w, jnp.sqrt(w / s))
    return rate


def muon_axes(rows):
    """Which axes are the rows of a matrix (None for what is AdamW's); the columns are the last axis."""
    return {k: MuonDimensionNumbers(rows(len(s)), len(s) - 1) if len(s) >= 2 else None for k, (s, _) in SHAPES.items()}


FLATTEN = muon_axes(lambda rank: tuple(range(rank - 1)))
POSITIONS = muon_axes(lambda rank: rank - 2)


def muon_and_adamw(matrices, rest):
    """optax's `muon` turns on Nesterov in its AdamW too; here the rest has an optimizer of its own."""
    def update(g, s, p):
        (u, a), (v, b) = matrices.update(g, s[0], p), rest.update(g, s[1], p)
        return {k: u[k] if FLATTEN[k] else v[k] for k in g}, (a, b)
    return optax.GradientTransformation(lambda p: (matrices.init(p), rest.init(p)), update)


def sm3(lr, momentum, b2):
    """As the reference library has it: scalars are vectors of one element."""
    inner = optax.chain(optax.scale_by_sm3(momentum, b2=b2), optax.scale(-lr))
    up = lambda tree: jax.tree.map(lambda x: x[None] if x.ndim == 0 else x, tree)
    def update(g, s, p):
        u, s = inner.update(up(g), s, up(p))
        return jax.tree.map(lambda u, g: u.reshape(g.shape), u, g), s
    return optax.GradientTransformation(lambda p: inner.init(up(p)), update)


def cases():
    cosine = dict(init_value=0.001, peak_value=0.02, warmup_steps=3, decay_steps=10, end_value=0.002)
    linear = dict(init_value=0.02, end_value=0.001, transition_steps=8)
    linear_config = dict(kind="linear", init_value=0.02, end_value=0.001, steps=8)
    adam = lambda lr: optax.adam(lr, eps_root=1e-8)
    factored = dict(min_dim_size_to_factor=3)
    plain_factor = dict(multiply_by_parameter_scale=False, clipping_threshold=None)
    muon_config = dict(kind="muon", bias_correction=True, epsilon=1e-8, adam_beta2=0.999, adam_epsilon=1e-8)
    ns = dict(eps=1e-8, muon_weight_dimension_numbers=FLATTEN)
    sgd = dict(kind="sgd", learning_rate=0.05)
    return {
        "adam_warmup_cosine": (adam(optax.warmup_cosine_decay_schedule(**cosine)),
                               dict(kind="adam", learning_rate=dict(kind="warmup_cosine", **cosine))),
        "adam_linear": (adam(optax.linear_schedule(**linear)), dict(kind="adam", learning_rate=linear_config)),
        "adam_exponential": (adam(optax.exponential_decay(0.02, 4, 0.3, end_value=0.003)),
                             dict(kind="adam", learning_rate=dict(kind="exponential", init_value=0.02, rate=0.3, steps=4, end_value=0.003))),
        "adam_staircase": (adam(optax.exponential_decay(0.02, 4, 0.3, staircase=True)),
                           dict(kind="adam", learning_rate=dict(kind="exponential", init_value=0.02, rate=0.3, steps=4, staircase=True))),
        "adam_pieces": (adam(optax.piecewise_constant_schedule(0.02, {3: 0.5, 8: 0.25})),
                        dict(kind="adam", learning_rate=dict(kind="piecewise_constant", init_value=0.02, boundaries=[3, 8], scales=[0.5, 0.25]))),
        "piecewise_linear_adam": (adam(piecewise_linear([2, 5, 9], [0.02, 0.004, 0.01])),
                                  dict(kind="piecewise_linear_adam", times=[2, 5, 9], lrs=[0.02, 0.004, 0.01])),
        "adam_sqrt_decay_lr": (adam(inverse_sqrt(3.0, 1000)), dict(kind="adam_sqrt_decay_lr", learning_rate=3.0)),
        "adam_exp_decay_lr": (adam(lambda t: 0.02 * (1 - 7e-5) ** t), dict(kind="adam_exp_decay_lr", learning_rate=0.02)),
        "adam_settings": (optax.adam(0.02, 0.8, 0.95, 1e-4, 1e-3),
                          dict(kind="adam", learning_rate=0.02, beta1=0.8, beta2=0.95, epsilon=1e-4, epsilon_root=1e-3)),
        "adam_w_settings": (optax.adamw(0.02, 0.8, 0.95, 1e-4, 1e-3, weight_decay=0.1),
                            dict(kind="adam_w", learning_rate=0.02, b1=0.8, b2=0.95, eps=1e-4, eps_root=1e-3, weight_decay=0.1)),
        "rmsprop_momentum": (optax.rmsprop(0.01, 0.8, 1e-3, momentum=0.9),
                             dict(kind="rmsprop", learning_rate=0.01, decay=0.8, epsilon=1e-3, momentum=0.9)),
        "rmsprop_nesterov": (optax.rmsprop(0.01, momentum=0.7, nesterov=True),
                             dict(kind="rmsprop", learning_rate=0.01, momentum=0.7, nesterov=True)),
        "lamb_decay": (optax.lamb(0.02, 0.8, 0.95, 1e-4, 1e-3, 0.1),
                       dict(kind="lamb", learning_rate=0.02, beta1=0.8, beta2=0.95, epsilon=1e-4, epsilon_root=1e-3, weight_decay=0.1)),
        "lars_decay_nesterov": (optax.lars(0.5, 0.1, trust_coefficient=0.02, eps=1e-3, momentum=0.8, nesterov=True),
                                dict(kind="lars", learning_rate=0.5, weight_decay=0.1, trust_coefficient=0.02, epsilon=1e-3, momentum=0.8, nesterov=True)),
        "radam_settings": (optax.radam(0.02, 0.8, 0.95, 1e-4, 1e-3, 4.5),
                           dict(kind="radam", learning_rate=0.02, beta1=0.8, beta2=0.95, epsilon=1e-4, epsilon_root=1e-3, threshold=4.5)),
        "yogi_settings": (optax.yogi(0.02, 0.8, 0.95, 1e-2), dict(kind="yogi", learning_rate=0.02, beta1=0.8, beta2=0.95, epsilon=1e-2)),
        "adabelief_settings": (optax.adabelief(0.02, 0.8, 0.95, 1e-6, 1e-8),
                               dict(kind="adabelief", learning_rate=0.02, beta1=0.8, beta2=0.95, epsilon=1e-6, epsilon_root=1e-8)),
        "adagrad_zero": (optax.adagrad(0.02, 0.0, 1e-3), dict(kind="adagrad", learning_rate=0.02, initial_accumulator_value=0.0, epsilon=1e-3)),
        "sm3_decay": (sm3(0.02, 0.8, 0.9), dict(kind="sm3", learning_rate=0.02, momentum=0.8, beta2=0.9)),
        "fromage_linear": (optax.fromage(optax.linear_schedule(**linear), 1e-3),
                           dict(kind="fromage", learning_rate=linear_config, min_norm=1e-3)),
        "adafactor_factored": (optax.adafactor(0.05, **factored), dict(kind="adafactor", learning_rate=0.05, **factored)),
        "adafactor_momentum": (optax.adafactor(0.05, **factored, momentum=0.9, weight_decay_rate=0.01, decay_rate=0.6),
                               dict(kind="adafactor", learning_rate=0.05, **factored, momentum=0.9, weight_decay_rate=0.01, decay_rate=0.6)),
        "adafactor_plain": (optax.adafactor(0.02, **factored, **plain_factor),
                            dict(kind="adafactor", learning_rate=0.02, **factored, **plain_factor)),
        "adafactor_unfactored": (optax.adafactor(0.05, **factored, factored=False, eps=1e-8, clipping_threshold=0.5),
                                 dict(kind="adafactor", learning_rate=0.05, **factored, factored=False, epsilon=1e-8, clipping_threshold=0.5)),
        "muon": (muon_and_adamw(muon(0.02, **ns), optax.adamw(0.01, weight_decay=0.0)), dict(**muon_config, learning_rate=0.02, adam_learning_rate=0.01)),
        "muon_decay": (muon(0.02, weight_decay=0.1, adam_weight_decay=0.2, adam_learning_rate=0.01, nesterov=False, consistent_rms=0.2,
                            **{**ns, "muon_weight_dimension_numbers": POSITIONS}),
                       dict(**muon_config, learning_rate=0.02, weight_decay=0.1, adam_weight_decay=0.2, adam_learning_rate=0.01, nesterov=False,
                            scale="rms", kernels="positions")),
        "global_norm_clip": (optax.chain(optax.clip_by_global_norm(2.0), optax.sgd(0.05)),
                             dict(kind="global_norm_clip", max_norm=2.0, inner=sgd)),
        "gradient_clip": (optax.chain(optax.clip(0.5), optax.sgd(0.05, 0.9)),
                          dict(kind="gradient_clip", grad_clip=0.5, inner=dict(kind="sgdm", learning_rate=0.05, momentum=0.9))),
        "accumulation": (optax.MultiSteps(adam(0.02), 3, use_grad_mean=True),
                         dict(kind="gradient_accumulation", steps=3, inner=dict(kind="adam", learning_rate=0.02))),
    }


def main(outdir):
    outdir = pathlib.Path(outdir)
    outdir.mkdir(parents=True, exist_ok=True)
    params, grads = make_inputs(23)
    stored = {f"params/{k}": v for k, v in params.items()}
    for t, g in enumerate(grads):
        stored.update({f"grads/{t}/{k}": v for k, v in g.items()})
    save_file(stored, str(outdir / "inputs.safetensors"))
    manifest = []
    for name, (tx, config) in cases().items():
        p = {k: jnp.asarray(v) for k, v in params.items()}
        state = tx.init(p)
        step = jax.jit(lambda g, s, p: tx.update(g, s, p))
        after = {}
        for t, g in enumerate(grads):
            u, state = step({k: jnp.asarray(v) for k, v in g.items()}, state, p)
            p = optax.apply_updates(p, u)
            after.update({f"params/{t + 1}/{k}": np.array(v, order="C") for k, v in p.items()})
        save_file(after, str(outdir / f"{name}.safetensors"))
        manifest.append(dict(file=f"{name}.safetensors", config=config))
        print(name, {k: float(np.abs(np.asarray(v) - params[k]).mean()) for k, v in p.items()})
    (outdir / "manifest.json").write_text(json.dumps(dict(num_steps=NUM_STEPS, steps=STEPS, cases=manifest), indent=1))


if __name__ == "__main__":
    main(sys.argv[1])
