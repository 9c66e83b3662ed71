#!/usr/bin/env bash
# Links a CUDA program on a machine that cannot download the LLVM of burn's CUDA backend. For measurements only.
#
#   benches/cuda/link.sh --bench pytorch             links a bench
#   benches/cuda/link.sh --example nanochat_sweep    links an example; further arguments are passed to cargo
#
# burn has two generators of CUDA kernels: LLVM, which is the default, and C++ through NVRTC. This script selects the
# second, so that no function of LLVM is called, and replaces the LLVM functions that the linker misses by stubs. It
# does not change the repository: it builds a workspace of links with a changed manifest, in target/cuda-link.
#
# The first build takes 45 minutes on two cores, later ones a minute. CARGO_TARGET_DIR names another target directory.
# The last line of the output is the program's path. docs/cuda.md lists what the program needs at run time.
set -euo pipefail

fail() {
    echo "link.sh: $1" >&2
    [ $# -eq 1 ] || tail -n 40 "$2" | cut -c 1-400 >&2
    exit 1
}

case ${1-} in
--bench | --example) [ $# -ge 2 ] || fail "$1 needs a name, for example: --bench pytorch" ;;
*)
    sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0"
    exit 2
    ;;
esac
kind=$1 name=$2
shift 2
for program in cargo cc ar; do
    command -v "$program" > /dev/null || fail "$program is missing; cc and ar come with a C compiler (gcc)"
done

root=$(cd "$(dirname "$0")/../.." && pwd)
work=$root/target/cuda-link
symbols=$work/symbols stubs=$work/libllvmstubs.a log=$work/log
export CUDARC_CUDA_VERSION=${CUDARC_CUDA_VERSION:-13000} # runs with drivers from CUDA 12.8 on
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$work/target}

# A workspace of links. Only the manifest of the examples differs; the lock file is a copy, because cargo may write it.
tree=$work/tree
rm -rf "$tree"
mkdir -p "$tree/examples" "$work/bin"
for entry in "$root"/*; do
    case ${entry##*/} in
    target | examples | Cargo.lock) ;;
    *) ln -s "$entry" "$tree/" ;;
    esac
done
ln -s "$root"/examples/* "$tree/examples/"
cp "$root/Cargo.lock" "$tree/"
rm "$tree/examples/Cargo.toml"
version=$(sed -n '/^name = "cubecl"$/{n;s/^version = "\(.*\)"$/\1/p}' "$root/Cargo.lock")
[ -n "$version" ] || fail "Cargo.lock has no cubecl; link.sh needs a version of burn whose CUDA backend is in cubecl"
generator="cubecl = { version = \"=$version\", default-features = false, features = [\"cuda-cpp\"] }"
sed "/^\[dependencies\]$/a $generator" "$root/examples/Cargo.toml" > "$tree/examples/Cargo.toml"

# DOCS_RS=1 makes the build scripts skip their downloads, as on docs.rs. `cargo rustc` passes the arguments after `--`
# only to the last crate.
build() {
    (cd "$tree" && DOCS_RS=1 cargo rustc --package bdh-examples --features cuda "$kind" "$name" \
        --message-format=json-render-diagnostics "$@" 2>&1 > "$work/messages") |
        { tee "$log" | grep -E '^ *(Blocking|Compiling|Downloading|Finished)' >&2 || true; }
}

# Lists all missing symbols at once: lld stops after 20 errors without this option. GNU ld has no limit and no option.
link() {
    build "$@" -- -C "link-arg=$stubs" -C link-arg=-Wl,--error-limit=0 && return
    grep -qE '^[^"]*(unrecognized|unknown)[^"]*error-limit' "$log" && build "$@" -- -C "link-arg=$stubs"
}

stub() {
    {
        echo '#include <stdio.h>'
        echo '#include <stdlib.h>'
        echo '#define STUB(name) void name(void) { fputs(#name " of LLVM is a stub\n", stderr); abort(); }'
        sed 's/.*/STUB(&)/' "$symbols"
    } > "$work/stubs.c"
    rm -f "$stubs"
    cc -c -o "$work/stubs.o" "$work/stubs.c" || fail "cc cannot compile $work/stubs.c"
    ar rcs "$stubs" "$work/stubs.o"
}

# Undefined symbols, in the error messages of lld and of GNU ld.
undefined() {
    grep -oE 'undefined (symbol: |reference to `)[A-Za-z0-9_.$:]+' "$log" | sed 's/.*[ `]//' | sort -u
}

touch "$symbols"
stub
if ! link "$@"; then
    missing=$(undefined || true)
    [ -n "$missing" ] || fail "the build failed for another reason than missing symbols; from $log:" "$log"
    others=$(grep -vE '^(LLVM|cubecl_)' <<< "$missing" || true)
    [ -z "$others" ] || fail "the linker misses symbols that are not LLVM's: $(head -n 5 <<< "$others" | tr '\n' ' ')"
    sort -u -o "$symbols" "$symbols" - <<< "$missing"
    echo "link.sh: $(wc -l < "$symbols") functions of LLVM are replaced by stubs" >&2
    stub
    link "$@" || fail "linking with the stubs failed; from $log:" "$log"
fi

program=$(grep -o '"executable":"[^"]*"' "$work/messages" | tail -n 1 | cut -d '"' -f 4)
[ -x "$program" ] || fail "cargo reported no program; see $work/messages"
cp "$program" "$work/bin/$name"
echo "$work/bin/$name"
