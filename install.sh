#!/bin/sh
# Install aj for one user: from this checkout, or from a binary that is already built.
# Nothing here needs root, and nothing here asks for it.
set -eu

usage() {
    cat <<'EOF'
Usage: ./install.sh [--prefix DIR] [--from FILE] [--dry-run] [--quiet]
       ./install.sh --uninstall [--prefix DIR] [--dry-run] [--quiet]

  --prefix DIR   install below DIR (default: ~/.local): bin/aj, manual pages, completions
  --from FILE    copy this binary instead of building one
  --uninstall    remove what this script installed below the prefix; state is kept
  --dry-run      say what would be done, and do nothing
  --quiet        say nothing but errors
EOF
}

say() {
    [ "$quiet" = 1 ] || printf '%s\n' "$*"
}

fail() {
    printf 'install.sh: error: %s\n' "$1" >&2
    shift
    for hint in "$@"; do
        printf 'hint: %s\n' "$hint" >&2
    done
    exit 1
}

# Run a command, or say it under --dry-run.
act() {
    if [ "$dry_run" = 1 ]; then
        say "would run: $*"
    else
        "$@"
    fi
}

parse() {
    prefix='' from='' uninstall=0 dry_run=0 quiet=0
    while [ $# -gt 0 ]; do
        case $1 in
        --prefix | --from)
            [ -n "${2:-}" ] || fail "$1 takes a value" "./install.sh --help"
            if [ "$1" = --prefix ]; then prefix=$2; else from=$2; fi
            shift
            ;;
        --prefix=?*) prefix=${1#*=} ;;
        --from=?*) from=${1#*=} ;;
        --uninstall) uninstall=1 ;;
        --dry-run) dry_run=1 ;;
        --quiet) quiet=1 ;;
        -h | --help)
            usage
            exit 0
            ;;
        *) fail "unknown argument \`$1\`" "./install.sh --help" ;;
        esac
        shift
    done
    if [ -z "$prefix" ]; then
        [ -n "${HOME:-}" ] || fail "HOME is not set" "name a directory with --prefix DIR"
        prefix=$HOME/.local
    fi
    # The receipt has one path a line, and paths in it must keep their meaning.
    case $prefix in
    *'
'*) fail "the prefix contains a line feed" ;;
    /*) ;;
    *) prefix=$(pwd)/$prefix ;;
    esac
    prefix=${prefix%/}
    bin=$prefix/bin
    receipt=$prefix/share/agentjail/installed
}

# Whether a program placed in this directory can be executed: not on a file system mounted noexec.
can_execute_in() {
    probe=$1/.aj-probe.$$
    # The shell would tell of a directory that is not writable before the redirection takes effect.
    { printf '#!/bin/sh\nexit 0\n' >"$probe"; } 2>/dev/null || return 1
    chmod 755 "$probe"
    executed=0
    "$probe" 2>/dev/null || executed=$?
    rm -f "$probe"
    return "$executed"
}

musl_target() {
    machine=$(uname -m)
    case $machine in
    x86_64 | aarch64) ;;
    *) return 1 ;;
    esac
    target=$machine-unknown-linux-musl
    [ -d "$(rustc --print sysroot)/lib/rustlib/$target/lib" ] || return 1
    # The bundled SQLite is C.
    command -v musl-gcc >/dev/null 2>&1 || command -v "$machine-linux-musl-gcc" >/dev/null 2>&1 || return 1
    printf '%s\n' "$target"
}

build() {
    checkout=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
    [ -f "$checkout/Cargo.toml" ] || fail "\`$checkout\` is not a checkout of agentjail" "copy a built binary with --from FILE"
    command -v cargo >/dev/null 2>&1 ||
        fail "cargo was not found" "install Rust from https://rustup.rs" "or copy a built binary with --from FILE"
    out=${CARGO_TARGET_DIR:-$checkout/target}
    case $out in
    /*) ;;
    *) out=$checkout/$out ;;
    esac
    if target=$(musl_target); then
        say "building a static binary for $target"
        built=$out/$target/release/aj
        set -- --target "$target"
    else
        say "building a binary that needs this machine's C library: the musl target is not installed"
        say "  (for a static one: rustup target add $(uname -m)-unknown-linux-musl, and musl-gcc of the package musl-tools)"
        built=$out/release/aj
        set --
    fi
    if [ "$dry_run" = 0 ]; then
        mkdir -p "$out" || fail "could not make \`$out\`" "name a writable directory in CARGO_TARGET_DIR"
        can_execute_in "$out" ||
            fail "\`$out\` cannot hold programs (read-only, or mounted noexec)" "name another directory in CARGO_TARGET_DIR"
        AJ_COMMIT=$(git -C "$checkout" rev-parse --short=12 HEAD 2>/dev/null || true)
        export AJ_COMMIT
    fi
    # The directory matters: rust-toolchain.toml and .cargo/config.toml are looked up from it.
    ( cd "$checkout" && act cargo build --release --locked --bin aj --target-dir "$out" "$@" ) ||
        fail "the build failed"
    from=$built
}

# Whether a file begins as every program of Linux does: what is none must not be run to find out.
is_elf() {
    [ "$(dd if="$1" bs=4 count=1 2>/dev/null | od -An -tx1 | tr -d ' \n')" = 7f454c46 ]
}

# A directory in the place of a file would be moved into, not replaced.
check_place() {
    if [ -d "$1" ]; then
        fail "\`$1\` is a directory" "move it away, or name another directory with --prefix DIR"
    fi
}

# Copy a file below the prefix by way of a rename and note it for --uninstall.
place() {
    mkdir -p "$(dirname -- "$2")"
    cp -- "$1" "$2.new.$$"
    chmod "$3" "$2.new.$$"
    mv -f -- "$2.new.$$" "$2"
    printf '%s\n' "$2" >>"$staging/installed"
}

install_all() {
    if [ -z "$from" ]; then
        build
    elif [ ! -f "$from" ] || [ ! -r "$from" ]; then
        fail "\`$from\` is not a file that can be read"
    elif ! is_elf "$from"; then
        fail "\`$from\` is not an ELF binary" "build one here: ./install.sh without --from"
    fi
    check_place "$bin/aj"
    if [ "$dry_run" = 1 ]; then
        say "would install $from as $bin/aj"
        say "would install manual pages and completions below $prefix/share"
        return
    fi
    mkdir -p "$bin" "$prefix/share/agentjail" 2>/dev/null ||
        fail "could not make \`$bin\`" "name a directory of your own with --prefix DIR"
    can_execute_in "$bin" ||
        fail "\`$bin\` cannot hold programs (not writable, or mounted noexec)" "name another directory with --prefix DIR"

    staging=$(mktemp -d "$prefix/share/agentjail/staging.XXXXXX")
    trap 'rm -rf -- "$staging"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    # Everything comes out of the binary itself, and is complete before anything is replaced.
    cp -- "$from" "$staging/aj"
    chmod 755 "$staging/aj"
    version=$("$staging/aj" --version) ||
        fail "\`$from\` does not run on this machine" "build it here: ./install.sh without --from"
    mkdir "$staging/man"
    "$staging/aj" -q man "$staging/man"
    for shell in bash zsh fish; do
        "$staging/aj" completions "$shell" >"$staging/$shell"
    done

    # All of them before the first is placed: half an installation is worse than none.
    for page in "$staging"/man/*.1; do
        check_place "$prefix/share/man/man1/${page##*/}"
    done
    check_place "$prefix/share/bash-completion/completions/aj"
    check_place "$prefix/share/zsh/site-functions/_aj"
    check_place "$prefix/share/fish/vendor_completions.d/aj.fish"
    check_place "$bin/aj"

    : >"$staging/installed"
    for page in "$staging"/man/*.1; do
        place "$page" "$prefix/share/man/man1/${page##*/}" 644
    done
    place "$staging/bash" "$prefix/share/bash-completion/completions/aj" 644
    place "$staging/zsh" "$prefix/share/zsh/site-functions/_aj" 644
    place "$staging/fish" "$prefix/share/fish/vendor_completions.d/aj.fish" 644
    place "$staging/aj" "$bin/aj" 755
    # What an older version installed and this one does not.
    [ ! -f "$receipt" ] || remove_listed "$receipt" "$staging/installed"
    mv -f -- "$staging/installed" "$receipt"

    say "installed $version as $bin/aj"
    hints
}

hints() {
    case :${PATH:-}: in
    *":$bin:"*) ;;
    *)
        say ""
        say "$bin is not in PATH. Add this line to the profile of your shell:"
        say "  export PATH=\"$bin:\$PATH\""
        ;;
    esac
    say ""
    say "next: aj doctor"
}

# Remove the files that receipt $1 lists and receipt $2 does not.
remove_listed() {
    while IFS= read -r path; do
        case $path in
        */../*) ;; # never written by this script
        "$prefix"/*) grep -Fqx -e "$path" "$2" || act rm -f -- "$path" ;;
        esac
    done <"$1"
}

uninstall_all() {
    [ -f "$receipt" ] || fail "nothing was installed by this script below \`$prefix\`" "name the place with --prefix DIR"
    remove_listed "$receipt" /dev/null
    act rm -f -- "$receipt"
    for dir in bin share/man/man1 share/man share/bash-completion/completions share/bash-completion \
        share/zsh/site-functions share/zsh share/fish/vendor_completions.d share/fish share/agentjail share; do
        if [ "$dry_run" = 0 ]; then
            rmdir -- "$prefix/$dir" 2>/dev/null || true # others use it
        fi
    done
    [ "$dry_run" = 1 ] || say "removed aj from $prefix"
    say "state and configuration are kept: \${XDG_STATE_HOME:-~/.local/state}/agentjail, \${XDG_CONFIG_HOME:-~/.config}/agentjail"
}

main() {
    parse "$@"
    if [ "$uninstall" = 1 ]; then
        [ -z "$from" ] || fail "--from and --uninstall exclude each other"
        uninstall_all
    else
        install_all
    fi
}

main "$@"
