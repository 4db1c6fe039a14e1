//! Programs of a few instructions, for what no compiler at hand makes.

use crate::architecture::Architecture;

/// Where they are loaded.
const BASE: u8 = 0x40;

/// Writes to address 0. A shell cannot die of SIGSEGV as PID 1 (the kernel ignores a signal without handler from inside), a fault can.
pub(super) fn null_pointer(architecture: Architecture) -> Vec<u8> {
    let (machine, code): (u8, &[u8]) = match architecture {
        // xor %eax, %eax; mov %eax, (%rax)
        Architecture::X86 => (0x3e, &[0x31, 0xc0, 0x89, 0x00]),
        // mov x0, #0; str xzr, [x0]
        Architecture::Arm64 => (0xb7, &[0x00, 0x00, 0x80, 0xd2, 0x1f, 0x00, 0x00, 0xf9]),
    };
    let mut program = vec![
        0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, // 64 bits, little endian
        2, 0, machine, 0, 1, 0, 0, 0, // an executable for the machine
        0x78, 0, BASE, 0, 0, 0, 0, 0, // entry: right behind the headers
        0x40, 0, 0, 0, 0, 0, 0, 0, // program headers begin after this header
        0, 0, 0, 0, 0, 0, 0, 0, // no section headers
        0, 0, 0, 0, 0x40, 0, 0x38, 0, 1, 0, 0, 0, 0, 0, 0, 0, // sizes; one program header
        1, 0, 0, 0, 5, 0, 0, 0, // load, readable and executable
        0, 0, 0, 0, 0, 0, 0, 0, // from the start of the file
        0, 0, BASE, 0, 0, 0, 0, 0, // to the base
        0, 0, BASE, 0, 0, 0, 0, 0, //
        0x80, 0, 0, 0, 0, 0, 0, 0, // the whole file
        0x80, 0, 0, 0, 0, 0, 0, 0, //
        0, 0x10, 0, 0, 0, 0, 0, 0, // in pages
    ];
    program.extend_from_slice(code);
    program.resize(0x80, 0);
    program
}

/// A 32-bit program: opens /etc/service.key by open(2), which has number 5 there, and exits with 7.
pub(super) fn of_32_bits(architecture: Architecture) -> Vec<u8> {
    // The path stands at 0x70, behind 28 bytes of code.
    let (machine, flags, code): (u8, u8, [u8; 28]) = match architecture {
        Architecture::X86 => (
            3,
            0,
            [
                0xb8, 5, 0, 0, 0, // mov $5, %eax
                0xbb, 0x70, 0, BASE, 0, // mov $path, %ebx
                0x31, 0xc9, // xor %ecx, %ecx
                0xcd, 0x80, // int $0x80
                0xbb, 7, 0, 0, 0, // mov $7, %ebx
                0xb8, 1, 0, 0, 0, // mov $1, %eax
                0xcd, 0x80, // int $0x80
                0, 0,
            ],
        ),
        Architecture::Arm64 => (
            0x28,
            5,
            [
                0x05, 0x70, 0xa0, 0xe3, // mov r7, #5
                0x10, 0x00, 0x8f, 0xe2, // add r0, pc, #16
                0x00, 0x10, 0xa0, 0xe3, // mov r1, #0
                0x00, 0x00, 0x00, 0xef, // svc 0
                0x07, 0x00, 0xa0, 0xe3, // mov r0, #7
                0x01, 0x70, 0xa0, 0xe3, // mov r7, #1
                0x00, 0x00, 0x00, 0xef, // svc 0
            ],
        ),
    };
    let mut program = vec![
        0x7f, b'E', b'L', b'F', 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, // 32 bits, little endian
        2, 0, machine, 0, 1, 0, 0, 0, // an executable for the machine
        0x54, 0, BASE, 0, // entry: right behind the headers
        0x34, 0, 0, 0, // program headers begin after this header
        0, 0, 0, 0, // no section headers
        0, 0, 0, flags, // on ARM the version of its calling convention
        0x34, 0, 0x20, 0, 1, 0, 0, 0, 0, 0, 0, 0, // sizes; one program header
        1, 0, 0, 0, // load
        0, 0, 0, 0, // from the start of the file
        0, 0, BASE, 0, // to the base
        0, 0, BASE, 0, //
        0x84, 0, 0, 0, // the whole file
        0x84, 0, 0, 0, //
        5, 0, 0, 0, // readable and executable
        0, 0x10, 0, 0, // in pages
    ];
    program.extend_from_slice(&code);
    program.extend_from_slice(b"/etc/service.key\0");
    program.resize(0x84, 0);
    program
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_laid_out_as_they_claim() {
        for architecture in [Architecture::X86, Architecture::Arm64] {
            assert_eq!(null_pointer(architecture).len(), 0x80);
            let program = of_32_bits(architecture);
            assert_eq!((program.len(), &program[0x70..0x81]), (0x84, b"/etc/service.key\0".as_slice()));
        }
    }
}
