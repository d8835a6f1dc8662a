#!/usr/bin/env python3
"""Compiles the CUDA kernels with NVRTC: PTX, and machine code with what it takes of a multiprocessor.

    compile_kernels.py LIBNVRTC KERNELS OUT ARCH...

Writes OUT/UNIT.compute_ARCH.ptx and prints, for each kernel and architecture, registers a thread and bytes spilled.
Needs no device. Exits 1 if a unit does not compile.
"""
import ctypes
import os
import re
import sys

# As src/cuda/driver.rs asks for: products and sums rounded one by one, IEEE division and root, denormals kept.
ARITHMETIC = ["--fmad=false", "--ftz=false", "--prec-div=true", "--prec-sqrt=true"]


class Nvrtc:
    def __init__(self, path):
        self.library = ctypes.CDLL(path)

    def text(self, program, what):
        size = ctypes.c_size_t()
        getattr(self.library, f"nvrtcGet{what}Size")(program, ctypes.byref(size))
        buffer = ctypes.create_string_buffer(max(size.value, 1))
        getattr(self.library, f"nvrtcGet{what}")(program, buffer)
        return buffer.raw[: size.value]

    def compile(self, path, options, what):
        """The program's PTX or CUBIN, and the compiler's messages."""
        program = ctypes.c_void_p()
        name = os.path.basename(path).encode()
        with open(path, "rb") as file:
            source = file.read()
        self.library.nvrtcCreateProgram(ctypes.byref(program), source, name, 0, None, None)
        encoded = [option.encode() for option in ARITHMETIC + options]
        status = self.library.nvrtcCompileProgram(program, len(encoded), (ctypes.c_char_p * len(encoded))(*encoded))
        log = self.text(program, "ProgramLog").rstrip(b"\0").decode()
        if status:
            sys.exit(f"{path} does not compile with {' '.join(options)}:\n{log}")
        result = self.text(program, what)
        self.library.nvrtcDestroyProgram(ctypes.byref(program))
        return result, log


def main():
    library, kernels, out, *architectures = sys.argv[1:]
    nvrtc = Nvrtc(library)
    os.makedirs(out, exist_ok=True)
    for unit in sorted(name for name in os.listdir(kernels) if name.endswith(".cu")):
        for architecture in architectures:
            path = os.path.join(kernels, unit)
            include = f"--include-path={kernels}"
            ptx, log = nvrtc.compile(path, [include, f"--gpu-architecture=compute_{architecture}"], "PTX")
            if log.strip():
                print(log)
            with open(os.path.join(out, f"{unit}.compute_{architecture}.ptx"), "wb") as file:
                file.write(ptx.rstrip(b"\0"))
            options = [include, f"--gpu-architecture=sm_{architecture}", "--ptxas-options=-v"]
            _, log = nvrtc.compile(path, options, "CUBIN")
            entries = re.split(r"Compiling entry function '(\w+)'", log)[1:]
            for kernel, told in zip(entries[::2], entries[1::2]):
                registers = re.search(r"Used (\d+) registers", told)
                spills = re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads", told)
                frame = re.search(r"(\d+) bytes stack frame", told)
                print(
                    f"sm_{architecture}  {unit:<14} {kernel:<20} registers {registers[1] if registers else '?':>3}"
                    f"  spilled {spills[1] if spills else '?'} B  stack {frame[1] if frame else '?'} B"
                )


if __name__ == "__main__":
    main()
