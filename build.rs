//! Builds the program again when a migration changes: they are compiled into it.

fn main() {
    println!("cargo:rerun-if-changed=migrations");
}
