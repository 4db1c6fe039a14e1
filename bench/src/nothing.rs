//! The smallest program there is: it ends.

use std::{
    fs::{File, Permissions, rename, set_permissions},
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
};

use anyhow::{Result, bail};

const X86_64: (u8, &[u8]) = (
    0x3e,
    &[
        0xb8, 0x3c, 0x00, 0x00, 0x00, // mov $60, %eax (exit)
        0x31, 0xff, // xor %edi, %edi
        0x0f, 0x05, // syscall
    ],
);

const ARM64: (u8, &[u8]) = (
    0xb7,
    &[
        0xa8, 0x0b, 0x80, 0xd2, // mov x8, #93 (exit)
        0x00, 0x00, 0x80, 0xd2, // mov x0, #0
        0x01, 0x00, 0x00, 0xd4, // svc #0
    ],
);

/// Bytes of the headers, and of the whole program with room for the longest code.
const HEADERS: u8 = 0x78;
const WHOLE: u8 = 0x88;

/// Writes the program to a folder for temporary files, unless it is there.
pub(crate) fn program() -> Result<PathBuf> {
    let path = std::env::temp_dir().join("lastwords-bench-nothing");
    if path.exists() {
        return Ok(path);
    }
    // Renamed when it is whole: a program that is still open for writing cannot be executed.
    let unfinished = path.with_extension(std::process::id().to_string());
    let mut file = File::create(&unfinished)?;
    file.write_all(&image()?)?;
    drop(file);
    set_permissions(&unfinished, Permissions::from_mode(0o755))?;
    rename(&unfinished, &path)?;
    Ok(path)
}

fn image() -> Result<Vec<u8>> {
    let (machine, code) = match std::env::consts::ARCH {
        "x86_64" => X86_64,
        "aarch64" => ARM64,
        other => bail!("no program is written for the architecture {other}"),
    };
    let mut image = vec![
        0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, // 64 bits, little endian
        2, 0, machine, 0, 1, 0, 0, 0, // an executable
        HEADERS, 0, 0x40, 0, 0, 0, 0, 0, // entry: right behind the headers
        0x40, 0, 0, 0, 0, 0, 0, 0, // program headers begin after this header
        0, 0, 0, 0, 0, 0, 0, 0, // no section headers
        0, 0, 0, 0, 0x40, 0, 0x38, 0, 1, 0, 0, 0, 0, 0, 0, 0, // sizes; one program header
        1, 0, 0, 0, 5, 0, 0, 0, // load, readable and executable
        0, 0, 0, 0, 0, 0, 0, 0, // from the start of the file
        0, 0, 0x40, 0, 0, 0, 0, 0, // to 0x400000
        0, 0, 0x40, 0, 0, 0, 0, 0, //
        WHOLE, 0, 0, 0, 0, 0, 0, 0, // the whole file
        WHOLE, 0, 0, 0, 0, 0, 0, 0, //
        0, 0x10, 0, 0, 0, 0, 0, 0, // in pages
    ];
    image.extend_from_slice(code);
    image.resize(usize::from(WHOLE), 0);
    Ok(image)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_ends_with_0() {
        let program = program().unwrap();
        assert!(std::process::Command::new(program).status().unwrap().success());
    }
}
