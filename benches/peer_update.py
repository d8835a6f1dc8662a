"""One optimizer step in other programs, in the form of `paceline bench update --format json`.

    peer_update.py jax --peer jax_peer.py --optimizer adafac_mlp|hyper_v2|celo2_base [--lstm 128 --bank 64] [--reps 20]
    peer_update.py torch [--threads 2] [--reps 20]

`jax` steps an optimizer class of the peer's file, jitted, on one 1024x1024 tensor; `torch` steps AdamW, fused. Both make
three steps that are not timed, then print one JSON line.
"""

import argparse
import importlib.util
import json
import time

SIDE = 1024
WARM_UP = 3


def report(program, optimizer, seconds, reps, threads):
    """The line that compare.sh reads."""
    seconds = sorted(seconds)
    median, least, size = seconds[len(seconds) // 2], seconds[0], SIDE * SIDE
    print(json.dumps(dict(
        program=program, benchmark="update", device="cpu", optimizer=optimizer, shapes="square", parameters=size,
        reps=reps, threads=threads, seconds=median, seconds_min=least,
        ns_per_parameter=1e9 * median / size, ns_per_parameter_min=1e9 * least / size)))


def timed(step, reps):
    """Seconds of each step but the first few."""
    seconds = []
    for _ in range(WARM_UP + reps):
        begun = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - begun)
    return seconds[WARM_UP:]


def jax_step(arguments):
    import jax
    import jax.numpy as jnp

    spec = importlib.util.spec_from_file_location("jax_peer", arguments.peer)
    peer = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(peer)
    optimizer = dict(
        adafac_mlp=peer.AdafacMlp, celo2_base=peer.Celo2Base,
        hyper_v2=lambda: peer.HyperV2(arguments.lstm, arguments.bank))[arguments.optimizer]()
    keys = jax.random.split(jax.random.key(0), 3)
    theta = optimizer.theta(keys[0])
    params = dict(w=0.1 * jax.random.normal(keys[1], (SIDE, SIDE)))
    grads = dict(w=0.01 * jax.random.normal(keys[2], (SIDE, SIDE)))
    state = optimizer.init(theta, params, 1000.0)
    # The state is given away, so that it is updated where it lies.
    update = jax.jit(optimizer.update, donate_argnums=1)

    def step():
        nonlocal state
        state = jax.block_until_ready(update(theta, state, grads, jnp.float32(1.0)))

    report("jax", arguments.optimizer, timed(step, arguments.reps), arguments.reps, None)


def torch_step(arguments):
    import torch

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    weight = torch.nn.Parameter(0.1 * torch.randn(SIDE, SIDE))
    weight.grad = 0.01 * torch.randn(SIDE, SIDE)
    optimizer = torch.optim.AdamW([weight], lr=1e-3, fused=True)
    report("torch", "adam_w", timed(optimizer.step, arguments.reps), arguments.reps, torch.get_num_threads())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", choices=["jax", "torch"])
    parser.add_argument("--peer", help="path of jax_peer.py, which has the optimizers")
    parser.add_argument("--optimizer", default="adafac_mlp", choices=["adafac_mlp", "hyper_v2", "celo2_base"])
    parser.add_argument("--lstm", type=int, default=128)
    parser.add_argument("--bank", type=int, default=64)
    parser.add_argument("--reps", type=int, default=20)
    parser.add_argument("--threads", type=int)
    arguments = parser.parse_args()
    if arguments.reps < 1:
        parser.error("--reps must be at least 1")
    if arguments.program == "jax" and not arguments.peer:
        parser.error("jax needs --peer jax_peer.py")
    (jax_step if arguments.program == "jax" else torch_step)(arguments)


if __name__ == "__main__":
    main()
