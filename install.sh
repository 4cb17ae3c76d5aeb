#!/bin/sh
# Install aj for one user: from this checkout, or from a binary that is already built.
# Nothing here needs root, and nothing here asks for it.
set -eu

readonly line_feed='
'

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

warn() {
    printf 'install.sh: warning: %s\n' "$*" >&2
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
    case $prefix in
    *"$line_feed"*) fail "the prefix contains a line feed" ;;
    /*) ;;
    *)
        # Without -P the shell says what it remembers: of a directory that is gone, nothing at all, and
        # the prefix would lie below `/`.
        case $(pwd -P 2>/dev/null) in
        /) prefix=/$prefix ;;
        /*) prefix=$(pwd -P)/$prefix ;;
        *) fail "the working directory does not exist any more" "name an absolute directory with --prefix DIR" ;;
        esac
        ;;
    esac
    name_places "${prefix%/}"
    bin_as_named=$bin
}

name_places() {
    prefix=$1
    bin=$prefix/bin
    receipt=$prefix/share/agentjail/installed
}

# One spelling for one place: without `..`, `.` and links, whatever --prefix said.
resolve_prefix() {
    # The dot keeps line feeds at the end, which the shell would take away.
    resolved=$(CDPATH='' cd -- "${prefix:-/}" 2>/dev/null && pwd -P && printf .) || return 1
    resolved=${resolved%"$line_feed."}
    case $resolved in
    *"$line_feed"*) fail "the prefix contains a line feed" ;;
    esac
    name_places "${resolved%/}"
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

# Make the directory of the file `$prefix/$1`, and see that the file can be put there.
prepare() {
    check_place "$prefix/$1"
    dir=$(dirname -- "$prefix/$1")
    why=$(mkdir -p -- "$dir" 2>&1) ||
        fail "could not make \`$dir\`: ${why##*: }" "move away what is there, or name another directory with --prefix DIR"
    [ -w "$dir" ] ||
        fail "\`$dir\` is not writable" "make it writable: chmod u+w, or name another directory with --prefix DIR"
}

# Put a staged file below the prefix by a rename.
place() {
    { chmod "$3" "$1" && mv -f -- "$1" "$prefix/$2"; } ||
        fail "could not put \`$prefix/$2\` in place" \
            "take away what is in place already: ./install.sh --uninstall --prefix DIR"
}

# Remove what a failure before the first file left: staged files, and directories that were not there before.
clean_up() {
    [ -z "$staging" ] || rm -rf -- "$staging"
    [ -f "$receipt" ] || remove_dirs "$absent"
}

# Every directory that an installation makes, those that are in others first.
readonly DIRS='bin share/man/man1 share/man share/bash-completion/completions share/bash-completion
    share/zsh/site-functions share/zsh share/fish/vendor_completions.d share/fish share/agentjail share'

# Remove those of these directories that nobody else uses.
remove_dirs() {
    for dir in $1; do
        rmdir -- "$prefix/$dir" 2>/dev/null || true
    done
}

# Where each staged file goes: its name, its place below the prefix, its mode.
plan() {
    for page in "$staging"/man/*.1; do
        "$1" "$page" "share/man/man1/${page##*/}" 644
    done
    "$1" "$staging/bash" share/bash-completion/completions/aj 644
    "$1" "$staging/zsh" share/zsh/site-functions/_aj 644
    "$1" "$staging/fish" share/fish/vendor_completions.d/aj.fish 644
    "$1" "$staging/aj" bin/aj 755
}

plan_line() {
    prepare "$2"
    printf '%s\n' "$2" >>"$staging/installed" || fail "could not write below \`$staging\`"
}

# Whether this script, in any version, puts a file at this place below a prefix.
is_ours() {
    case $1 in
    bin/aj | share/bash-completion/completions/aj | share/zsh/site-functions/_aj) ;;
    share/fish/vendor_completions.d/aj.fish | share/man/man1/aj.1) ;;
    share/man/man1/*/*) return 1 ;;
    share/man/man1/aj-*.1) ;;
    *) return 1 ;;
    esac
}

install_all() {
    if [ -z "$from" ]; then
        build
    elif [ ! -f "$from" ] || [ ! -r "$from" ]; then
        fail "\`$from\` is not a file that can be read"
    elif ! is_elf "$from"; then
        fail "\`$from\` is not an ELF binary" "build one here: ./install.sh without --from"
    fi
    resolve_prefix || true # it need not be there yet
    check_place "$bin/aj"
    if [ "$dry_run" = 1 ]; then
        say "would install $from as $bin/aj"
        say "would install manual pages and completions below $prefix/share"
        return
    fi
    staging='' absent=''
    why=$(mkdir -p -- "${prefix:-/}" 2>&1) ||
        fail "could not make \`$prefix\`: ${why##*: }" "name a directory of your own with --prefix DIR"
    resolve_prefix || fail "\`$prefix\` cannot be entered" "name a directory of your own with --prefix DIR"
    for dir in $DIRS; do
        [ -e "$prefix/$dir" ] || absent="$absent $dir"
    done
    trap clean_up EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    prepare bin/aj
    prepare share/agentjail/installed
    can_execute_in "$bin" ||
        fail "\`$bin\` cannot hold programs (not writable, or mounted noexec)" "name another directory with --prefix DIR"

    staging=$(mktemp -d "$prefix/share/agentjail/staging.XXXXXX") ||
        fail "could not make a directory in \`$prefix/share/agentjail\`"
    # Everything comes out of the binary itself, and is complete before anything is replaced.
    { cp -- "$from" "$staging/aj" && chmod 755 "$staging/aj"; } || fail "could not copy \`$from\` to \`$staging\`"
    version=$("$staging/aj" --version) ||
        fail "\`$from\` does not run on this machine" "build it here: ./install.sh without --from"
    { mkdir "$staging/man" && "$staging/aj" -q man "$staging/man"; } || fail "could not write the manual pages"
    for shell in bash zsh fish; do
        "$staging/aj" completions "$shell" >"$staging/$shell" || fail "could not write the completions of $shell"
    done

    # All of them before the first is placed: half an installation is worse than none.
    plan plan_line
    # And the receipt, with what an older version installed: whatever stops this now can be removed.
    {
        cat -- "$staging/installed" &&
            if [ -f "$receipt" ]; then cat -- "$receipt"; fi
    } >"$staging/all" || fail "could not write \`$staging/all\`" "see that \`$receipt\` can be read"
    cp -- "$staging/all" "$staging/receipt" || fail "could not write \`$staging/receipt\`"
    place "$staging/receipt" share/agentjail/installed 644
    plan place
    # What an older version installed and this one does not. What stays is not forgotten.
    remove_listed "$staging/all" "$staging/installed"
    [ -z "$foreign" ] || warn "the receipt listed what is not of this script, and stays:$foreign"
    printf %s "$unremoved" >>"$staging/installed" || fail "could not write below \`$staging\`"
    place "$staging/installed" share/agentjail/installed 644

    say "installed $version as $bin/aj"
    hints
}

hints() {
    case :${PATH:-}: in
    *":$bin:"* | *":$bin_as_named:"*) ;;
    *)
        say ""
        say "$bin is not in PATH. Add this line to the profile of your shell:"
        say "  export PATH=\"$bin:\$PATH\""
        ;;
    esac
    say ""
    say "next: aj doctor"
}

# The place below the prefix that a line of a receipt means. Receipts of older versions have absolute paths,
# with the prefix as it was spelled then.
place_of() {
    relative=$1
    case $1 in
    /*/bin/aj | /bin/aj) relative=bin/aj ;;
    /*/share/* | /share/*) relative=share/${1##*/share/} ;;
    esac
    is_ours "$relative" || return 1
    case $1 in
    /*)
        spelled=${1%/"$relative"}
        [ "$spelled" = "$spelled_before" ] || {
            spelled_before=$spelled
            base=$(CDPATH='' cd -- "${spelled:-/}" 2>/dev/null && pwd -P && printf .) || base=''
            base=${base%"$line_feed."}
        }
        [ "${base%/}" = "$prefix" ] && [ -n "$base" ]
        ;;
    esac
}

# Remove the files that receipt $1 lists and receipt $2 does not. `unremoved` says which are still there, a
# line each, `foreign` what was listed and cannot be of this script.
remove_listed() {
    unremoved='' foreign='' spelled_before='?' base=''
    while IFS= read -r line || [ -n "$line" ]; do
        if ! place_of "$line"; then
            foreign="$foreign \`$line\`"
        elif ! grep -Fqx -e "$relative" "$2"; then
            if [ "$dry_run" = 1 ]; then
                act rm -f -- "$prefix/$relative"
            elif ! why=$(rm -f -- "$prefix/$relative" 2>&1); then
                warn "could not remove \`$prefix/$relative\`: ${why##*: }"
                unremoved="$unremoved$relative$line_feed"
            fi
        fi
    done <"$1"
}

uninstall_all() {
    resolve_prefix || true
    [ -f "$receipt" ] || fail "nothing was installed by this script below \`$prefix\`" "name the place with --prefix DIR"
    [ -r "$receipt" ] || fail "\`$receipt\` cannot be read"
    remove_listed "$receipt" /dev/null
    [ -z "$foreign" ] ||
        fail "the receipt lists what this script did not install below \`$prefix\`, and it stays:$foreign" \
            "remove by hand what is yours, then \`$receipt\`"
    [ -z "$unremoved" ] ||
        fail "not everything could be removed; the receipt \`$receipt\` is kept" \
            "make these files removable, then run this again"
    if [ "$dry_run" = 0 ]; then
        # Of installations that were killed.
        rm -rf -- "$prefix"/share/agentjail/staging.??????
    fi
    why=$(act rm -f -- "$receipt" 2>&1) || fail "could not remove \`$receipt\`: ${why##*: }"
    [ -z "$why" ] || say "$why"
    [ "$dry_run" = 1 ] || remove_dirs "$DIRS"
    [ "$dry_run" = 1 ] || say "removed aj from ${prefix:-/}"
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
