#!/usr/bin/env bash
# Builds what is released for one machine, each a static program that needs nothing of the system it runs on:
#   target/functions/NAME-ARCH.zip   the functions, as Lambda takes them: a `bootstrap` for provided.al2023
#   target/functions/weir-ARCH       the command line, with the feature aws
# Use:
#   infra/build.sh [arm64|x86_64] [further arguments of cargo, as --jobs 1]
#   infra/build.sh --list            the names of the functions
# Needs Rust by rustup (it has musl's standard library and the linker), and a C compiler that knows musl and both machines, for zstd and ring: zig, the one
# that is installed or else the pinned one of PyPI, which goes into target (438 MB; Python 3 with venv).
set -euo pipefail
cd "$(dirname "$0")/.."

ZIG=0.17.1

missing() { printf 'infra/build.sh: %s\n' "$@" >&2; exit 1; }

command -v cargo >/dev/null || missing "cargo is not installed: get Rust from https://rustup.rs"
command -v python3 >/dev/null || missing "python3 is not installed: it packs the functions"
arch=${1:-arm64}
case $arch in
  arm64) triple=aarch64-unknown-linux-musl zig_triple=aarch64-linux-musl ;;
  x86_64) triple=x86_64-unknown-linux-musl zig_triple=x86_64-linux-musl ;;
  --list) exec python3 infra/pack.py --list ;;
  *) echo "give arm64 or x86_64" >&2; exit 2 ;;
esac
shift || true
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")

if [ ! -d "$(rustc --print target-libdir --target "$triple")" ]; then
  command -v rustup >/dev/null || missing "this Rust has no standard library for $triple, and there is no rustup to get it:" \
    "install Rust from https://rustup.rs, or that library with whatever installed $(command -v rustc)"
  rustup target add "$triple"
fi
[ -e "$(rustc --print sysroot)/lib/rustlib/$(rustc -vV | sed -n 's/^host: //p')/bin/rust-lld" ] ||
  missing "this Rust has no rust-lld, which links for either machine: install Rust from https://rustup.rs"

if command -v zig >/dev/null; then
  zig=$(command -v zig)
else
  tools=$target/zig-$ZIG
  if [ ! -e "$tools/installed" ]; then
    echo "installing zig $ZIG from PyPI into $tools (438 MB), as there is none on the path" >&2
    rm -rf "$tools"
    python3 -m venv "$tools" || missing "python3 has no venv (Debian: apt install python3-venv); or put zig $ZIG on the path: https://ziglang.org/download"
    "$tools/bin/pip" install --quiet "ziglang==$ZIG" || missing "zig could not be had from PyPI: put zig $ZIG on the path: https://ziglang.org/download"
    touch "$tools/installed"
  fi
  zig=$("$tools/bin/python" -c 'import pathlib, ziglang; print(pathlib.Path(ziglang.__file__).with_name("zig"))')
fi

# What crates call to compile C: zig names the target otherwise than they do.
wrappers=$target/zig-for-$triple
mkdir -p "$wrappers"
cat >"$wrappers/cc" <<WRAPPER
#!/usr/bin/env bash
args=()
for arg in "\$@"; do
  case \$arg in --target=*) ;; *) args+=("\$arg") ;; esac
done
exec "$zig" cc -target $zig_triple -fno-sanitize=undefined "\${args[@]}"
WRAPPER
printf '#!/bin/sh\nexec "%s" ar "$@"\n' "$zig" >"$wrappers/ar"
chmod +x "$wrappers/cc" "$wrappers/ar"

name=${triple//-/_}
export "CC_$name=$wrappers/cc" "AR_$name=$wrappers/ar" "CARGO_TARGET_${name^^}_LINKER=rust-lld"
cargo build --locked --profile dist --target "$triple" -p infra -p weir --features infra/aws,weir/aws --bins "$@"
python3 infra/pack.py "$target/$triple/dist" "$target/functions" "$arch"
