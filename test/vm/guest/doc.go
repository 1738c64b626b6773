// Package guest has the tests that package vm runs in its virtual machine; on
// the host's kernel `go test` finds nothing to do here.
//
//   - The contract of all planes, kept by the kernel's IPVS with real packets.
//   - The same traffic through XDP and through IPVS, compared frame by frame.
//   - Instructions per packet of both.
//
// What package vm is to keep is printed as lines with a first word of their
// own and fields between tabs: "VERDICT", "INSTRUCTIONS", "VERIFIED".
package guest
