//! Compilers and build tools, over build directories made outside.

use std::path::{Path, PathBuf};

use super::project::{Project, SYSTEM_PATH, has, skip};

fn c_project() -> Project {
    let p = Project::new();
    p.write("hello.h", "const char *name(void);\n");
    p.write("name.c", "#include \"hello.h\"\nconst char *name(void) { return \"C\"; }\n");
    p.write(
        "hello.c",
        "#include <stdio.h>\n#include <pthread.h>\n#include <math.h>\n#include \"hello.h\"\n\
         static void *run(void *x) { return x; }\n\
         int main(void) { pthread_t t; pthread_create(&t, 0, run, 0); pthread_join(t, 0); printf(\"hello %s %.1f\\n\", name(), sqrt(2)); return 7; }\n",
    );
    p
}

#[test]
fn make_in_parallel_and_only_what_changed() {
    if !(has("make") && has("gcc")) {
        return;
    }
    let p = c_project();
    p.write(
        "Makefile",
        "hello: hello.o name.o\n\tgcc -o $@ $^ -lm -pthread\n%.o: %.c hello.h\n\tgcc -c -g -o $@ $<\nmany: $(addprefix x,$(shell seq 40))\nx%:\n\t@sleep 0.01; touch $@\n",
    );
    p.same("make -j4 -O 2>&1 | sort; ./hello; echo $?; make -j8 many; ls x* | wc -l");
    // Built outside now: nothing to do inside, and after a change one file.
    assert_eq!(p.inside("make hello"), "make: 'hello' is up to date.\n");
    let said = p.inside("touch name.c; make hello; ./hello; true");
    assert_eq!(said.matches("gcc -c").count(), 1, "{said}");
    p.same(
        "gcc -g -fsanitize=address,undefined hello.c name.c -lm -pthread -o checked && ./checked; echo $?",
    );
}

#[test]
fn cpp_with_exceptions_threads_and_debug_information() {
    if !has("g++") {
        return;
    }
    let p = Project::new();
    p.write(
        "a.cpp",
        "#include <iostream>\n#include <thread>\n#include <vector>\n#include <stdexcept>\n#include <filesystem>\n\
         int main() { std::vector<std::thread> v; for (int i = 0; i < 8; i++) v.emplace_back([]{}); for (auto &t : v) t.join();\n\
         try { throw std::runtime_error(\"caught\"); } catch (std::exception &e) { std::cout << e.what() << std::endl; }\n\
         std::cout << std::filesystem::exists(\"a.cpp\") << std::endl; }\n",
    );
    p.same("g++ -std=c++17 -O0 -g -pipe a.cpp -o a -pthread && ./a && strip a && ./a && rm a");
}

#[test]
fn a_cmake_build_directory_made_outside_is_not_configured_again() {
    if !(has("cmake") && has("gcc") && has("make")) {
        return;
    }
    let p = c_project();
    p.write(
        "CMakeLists.txt",
        "cmake_minimum_required(VERSION 3.10)\nproject(hello C)\nfind_package(Threads)\nmessage(STATUS configuring)\nadd_executable(hello hello.c name.c)\ntarget_link_libraries(hello m Threads::Threads)\nenable_testing()\nadd_test(NAME t COMMAND sh -c \"./hello; test $? = 7\")\n",
    );
    p.outside("cmake -S . -B build && cmake --build build");
    let said = p.inside("cmake --build build 2>&1");
    assert!(!said.contains("configuring") && !said.contains("Building"), "{said}");
    let said = p.inside("touch name.c; cmake --build build -j2 2>&1 | grep -c 'Building C'; cd build; ctest | grep -c 'tests passed'; grep -c \"$PWD\" CMakeCache.txt > /dev/null && echo same place");
    assert_eq!(said, "1\n1\nsame place\n");
    let said = p.inside("cmake -S . -B fresh 2>&1 | grep -c configuring; cmake --build fresh 2>&1 | tail -1; fresh/hello; true");
    assert!(said.starts_with("1\n[100%]"), "{said}");
}

/// The toolchain of whoever runs the tests: `bin` of cargo's home and the toolchain's directory.
fn toolchain() -> Option<PathBuf> {
    let home = std::env::var_os("HOME").map(PathBuf::from)?;
    let rustup = std::env::var_os("RUSTUP_HOME").map_or_else(|| home.join(".rustup"), PathBuf::from);
    let dirs = std::fs::read_dir(rustup.join("toolchains")).ok()?;
    let mut found: Vec<_> =
        dirs.flatten().map(|d| d.path()).filter(|d| d.join("bin/cargo").is_file()).collect();
    found.sort();
    found.pop()
}

#[test]
fn cargo_builds_inside_and_rebuilds_nothing_that_was_built_outside() {
    let Some(toolchain) = toolchain() else {
        skip("this user has no Rust toolchain under ~/.rustup");
        return;
    };
    if !has("gcc") {
        return;
    }
    let p = Project::new();
    p.write("Cargo.toml", "[workspace]\nmembers = [\"lib\"]\n[package]\nname = \"app\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[dependencies]\nlib = { path = \"lib\" }\n");
    p.write("src/main.rs", "fn main() { println!(\"{} {}\", lib::answer(), env!(\"BUILT\")); }\n#[test] fn t() { assert_eq!(lib::answer(), 42) }\n");
    p.write("build.rs", "fn main() { println!(\"cargo:rustc-env=BUILT={}\", std::env::var(\"PROFILE\").unwrap()); println!(\"cargo:rerun-if-changed=build.rs\"); }");
    p.write("lib/Cargo.toml", "[package]\nname = \"lib\"\nversion = \"0.1.0\"\nedition = \"2021\"\n");
    p.write("lib/src/lib.rs", "pub fn answer() -> i32 { 42 }\n");
    let bin = toolchain.join("bin");
    let path = format!("{}:{SYSTEM_PATH}", bin.display());
    let outside = |script: &str| {
        let out = p.command("bash").env("PATH", &path).args(["-c", script]).output().unwrap();
        assert!(out.status.success(), "{out:?}");
    };
    let inside = |script: &str| {
        let ro = toolchain.to_str().unwrap();
        let env = format!("PATH={path}");
        p.inside_with(&["--preset", "build", "--ro", ro, "-e", &env], script)
    };
    // From nothing, then again over what was built outside.
    let said = inside("cargo build --offline 2>&1 && target/debug/app && cargo run -q --offline");
    assert!(said.contains("Compiling lib") && said.ends_with("42 debug\n42 debug\n"), "{said}");
    outside("cargo build --offline");
    let said = inside("cargo build --offline 2>&1; cargo run --offline -q");
    assert!(
        said.contains("Finished") && !said.contains("Compiling") && said.ends_with("42 debug\n"),
        "{said}"
    );
    let said = inside("touch src/main.rs; cargo test --offline 2>&1");
    assert!(said.contains("1 passed") || said.contains("test result: ok"), "{said}");
    assert!(!said.contains("Compiling lib") || said.contains("Compiling app"), "{said}");
}

#[test]
fn a_shared_library_beside_its_program_and_a_static_one() {
    if !has("gcc") {
        return;
    }
    let p = c_project();
    let ran = p.same(
        "gcc -shared -fPIC name.c -o libname.so && gcc hello.c -L. -lname -lm -pthread -Wl,-rpath,'$ORIGIN' -o hello && ./hello; \
         LD_LIBRARY_PATH=$PWD ./hello; ldd hello | grep -c libname; gcc -c name.c && ar rcs libn.a name.o && nm libn.a | grep -c name; \
         gcc -static name.c hello.c -lm -pthread -o st && ./st; gdb --version >/dev/null 2>&1; file hello 2>/dev/null | cut -c1-20",
    );
    assert!(ran.stdout.starts_with("hello C 1.4\nhello C 1.4\n"), "{ran:#?}");
    assert!(Path::new("/usr/bin/gcc").exists());
}
