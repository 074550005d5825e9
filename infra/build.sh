#!/usr/bin/env bash
# Builds the functions for Lambda's provided.al2023 (glibc 2.34) and packs each as what Lambda takes: target/functions/NAME-ARCH.zip with a `bootstrap`.
#   infra/build.sh [arm64|x86_64] [further arguments of cargo]
# Needs Rust by rustup and Python 3 with venv; zig, which links against the older glibc and compiles the C parts for either machine, comes from PyPI
# at a pinned version, into target.
set -euo pipefail
cd "$(dirname "$0")/.."
arch=${1:-arm64}
case $arch in
  arm64) triple=aarch64-unknown-linux-gnu ;;
  x86_64) triple=x86_64-unknown-linux-gnu ;;
  *) echo "give arm64 or x86_64" >&2; exit 2 ;;
esac
shift || true
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
tools=$target/zig-0.17.1
if [ ! -e "$tools/installed" ]; then
  echo "installing zig and cargo-zigbuild into $tools (442 MB)" >&2
  rm -rf "$tools"
  python3 -m venv "$tools"
  "$tools/bin/pip" install --quiet ziglang==0.17.1 cargo-zigbuild==0.24.0
  touch "$tools/installed"
fi
if ! rustc --print target-libdir --target "$triple" | xargs test -d; then
  rustup target add "$triple"
fi
PATH="$tools/bin:$PATH" cargo zigbuild --release --locked -p infra --features aws --bins --target "$triple.2.34" "$@"
python3 - "$target" "$triple" "$arch" <<'PACK'
import pathlib, sys, zipfile
target, triple, arch = sys.argv[1:]
folder = pathlib.Path(target, "functions")
folder.mkdir(parents=True, exist_ok=True)
for program in sorted(pathlib.Path(target, triple, "release").glob("weir-*")):
    if program.suffix:
        continue
    packed = folder / f"{program.name}-{arch}.zip"
    # The same bytes give the same file: the time in it is that of all zip files.
    entry = zipfile.ZipInfo("bootstrap")
    entry.external_attr = 0o755 << 16
    entry.compress_type = zipfile.ZIP_DEFLATED
    with zipfile.ZipFile(packed, "w") as file:
        file.writestr(entry, program.read_bytes(), compresslevel=9)
    print(f"{packed}: {packed.stat().st_size / 1e6:.1f} MB, unpacked {program.stat().st_size / 1e6:.1f} MB")
PACK
