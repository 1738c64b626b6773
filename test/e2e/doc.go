// Package e2e drives the real binary in network namespaces with real clients
// and servers: nginx, dnsmasq, curl and dig. It has tests and no code; they
// need root.
package e2e
