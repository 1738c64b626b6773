// Package neighbour learns and follows the MAC addresses of the machines on
// the LAN that the director needs: real servers, and the other directors.
//
// The kernel does the ARP, or with IPv6 the neighbour discovery. A Watcher asks it to resolve an address, as
// "ip neigh replace ... use" does, and listens to what it finds out; it leaves
// nothing in the neighbour table that ordinary traffic would not. It sends
// requests of its own only where the kernel, which repeats a request once a
// second, is too slow: beats and health checks wait for the answer.
//
// # Promises
//
//  1. The first answer, and any change of a MAC address, is reported as soon
//     as the kernel says so. The same thing is not reported twice.
//  2. A known MAC address is not forgotten because the kernel's garbage
//     collection or a failed re-confirmation dropped it: everybody is asked
//     once more first, and only silence makes it unknown.
//  3. Unknown comes with a reason an operator can act on, and is asked again
//     every second; known is confirmed every 30 s.
//  4. Only the interface counts by which the address is reached. Of an address
//     behind a router the MAC address is the router's, and Update names it: a
//     tunnel leads there, gate (DR) does not. Update says which interface that
//     is, and what it is made of; a move to another one is reported. It also says
//     what a tunnel's outer header needs (Way): the source address and MTU of the
//     route. When these change it is reported with the next confirmation.
//  5. In the first 5 s after an address became unknown or in doubt, or after
//     its interface came up, it is asked for every 50 ms: when the path opens
//     it is known that soon. More than a dozen such addresses share about 250
//     requests in a second, and none is asked for less than once a second. A
//     known address costs no request of ours, nor does an interface without a
//     carrier.
//  6. Our requests bear the interface's own address on the subnet, never a
//     virtual one: who hears them may note the sender. With IPv6 that is its
//     link-local address, which a virtual address never is.
//
// A Watcher works in the network namespace of the process and needs
// CAP_NET_ADMIN, and CAP_NET_RAW for promise 5: without it that is logged, and
// the kernel asks alone.
package neighbour
