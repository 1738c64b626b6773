// Package vm runs tests on another kernel: a virtual machine with Debian's
// cloud kernel under qemu, without KVM (which the machines that run the tests
// rarely have), without network and without a disk.
//
//	vm.Run(ctx, vm.Machine{Programs: []vm.Program{{Path: "ipvs.test", Args: []string{"-test.v"}}}}, onLine)
//
// The machine's root is an initramfs of busybox, the modules that a director
// needs, ipvsadm, and the programs of the run, which are static. They run one
// after another as root, with SYSTOLE_VM=1 (and with SYSTOLE_CI=1, so that
// nothing is skipped), and what they print comes back by a serial port of its
// own. fetch.sh gets the kernel from Debian.
//
// # Promises
//
//  1. A run that did not come to its end (the line with the mark, which the
//     machine prints last) is ErrLost: neither passed nor failed. Test runs it
//     once more; a second loss fails.
//  2. Every run ends within its time, soon if nothing more is heard of it, and
//     when its context does. Nothing of it stays: no process, no file. A qemu
//     dies with the program that started it, however that dies.
//  3. The same instructions are counted for the same work (Machine.Counted): one
//     instruction takes one nanosecond of the machine's time.
//
// # What runs there
//
// The tests of this package (`go test ./test/vm`) put into the machine:
//
//   - the tests of bpf, dataplane/xdp and dataplane/ipvs, which need the kernel
//     that most directors have, or IPVS, which the host's kernel may lack;
//   - the tests of test/e2e that need IPVS: the daemon on IPVS alone, and XDP and
//     IPVS in turn, under open connections (SYSTOLE_SWITCHES=20
//     SYSTOLE_CONNECTIONS=10000 and -timeout 30m for more than make test
//     has);
//   - package guest: the contract of all planes (planetest) with the kernel's
//     IPVS, the same traffic through XDP and IPVS compared packet by packet
//     (build/verdicts.txt), and the instructions that a packet costs with either
//     (build/instructions.txt).
//
// The CPU model leaves out cmpxchg16b and five-level page tables: with them
// qemu 7.2 corrupts the memory of newer kernels now and then.
package vm
