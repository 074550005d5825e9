"""Packs the functions as Lambda takes them, and refuses what is not a static program for the machine that was asked for.

    python3 infra/pack.py FOLDER-OF-PROGRAMS FOLDER-OF-ZIPS arm64|x86_64
    python3 infra/pack.py --check PROGRAM arm64|x86_64
    python3 infra/pack.py --list      the functions: the programs that infra/Cargo.toml names
"""
import json, pathlib, shutil, struct, subprocess, sys, zipfile

MACHINES = {"x86_64": 62, "arm64": 183}  # e_machine of the ELF header
PT_INTERP = 3  # a program header that asks for a loader, which a static program does not have


def functions():
    command = ["cargo", "metadata", "--format-version", "1", "--no-deps", "--offline", "--manifest-path", str(pathlib.Path(__file__).with_name("Cargo.toml"))]
    packages = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)["packages"]
    (infra,) = (package for package in packages if package["name"] == "infra")
    return sorted(target["name"] for target in infra["targets"] if target["kind"] == ["bin"])


def wrong(program, arch):
    """Why these bytes are not what was asked for, if they are not."""
    if program[:6] != b"\x7fELF\x02\x01":
        return "it is no 64-bit ELF program"
    if struct.unpack_from("<H", program, 18)[0] != MACHINES[arch]:
        return f"it is not for {arch}"
    (headers,) = struct.unpack_from("<Q", program, 32)
    size, count = struct.unpack_from("<HH", program, 54)
    if any(struct.unpack_from("<I", program, headers + size * at)[0] == PT_INTERP for at in range(count)):
        return "it is not static: it asks for a loader"
    return None


def checked(path, arch):
    program = path.read_bytes()
    why = wrong(program, arch)
    if why:
        sys.exit(f"{path}: {why}")
    return program


def main(programs, folder, arch):
    programs, folder = pathlib.Path(programs), pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name in functions():
        program = checked(programs / name, arch)
        packed = folder / f"{name}-{arch}.zip"
        # The same bytes give the same file: the time in it is that of all zip files.
        entry = zipfile.ZipInfo("bootstrap")
        entry.external_attr = 0o755 << 16
        entry.compress_type = zipfile.ZIP_DEFLATED
        with zipfile.ZipFile(packed, "w") as file:
            file.writestr(entry, program, compresslevel=9)
        print(f"{packed}: {packed.stat().st_size / 1e6:.1f} MB, unpacked {len(program) / 1e6:.1f} MB")
    weir = folder / f"weir-{arch}"
    print(f"{weir}: {len(checked(programs / 'weir', arch)) / 1e6:.1f} MB")
    shutil.copy2(programs / "weir", weir)


if __name__ == "__main__":
    if sys.argv[1:] == ["--list"]:
        print(*functions(), sep="\n")
    elif len(sys.argv) == 4 and sys.argv[3] in MACHINES and sys.argv[1] == "--check":
        checked(pathlib.Path(sys.argv[2]), sys.argv[3])
    elif len(sys.argv) == 4 and sys.argv[3] in MACHINES:
        main(*sys.argv[1:])
    else:
        sys.exit(__doc__)
