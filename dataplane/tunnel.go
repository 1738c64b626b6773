package dataplane

// What every machine must take in one piece: a tunnel with less room is none.
const (
	leastIPv4 = 576  // RFC 791, section 3.2
	leastIPv6 = 1280 // RFC 8200, section 5
)

// defaultMTU is Ethernet's.
const defaultMTU = 1500

// Tunnelled tells whether packets get an outer header on their way to r.
func (r RealServer) Tunnelled() bool { return r.Forward == IPIP || r.Forward == GUE }

// Overhead is the length in bytes of what stands before a packet to r: an IP
// header, and with GUE those of UDP and GUE.
func (r RealServer) Overhead() int {
	n := 0
	if r.Tunnelled() {
		n = 20
		if r.Addr.Is6() {
			n = 40
		}
	}
	if r.Forward == GUE {
		n += 8 + 4
	}
	return n
}

// Most is the largest packet, in bytes of IP, that gets to r in one piece.
func (r RealServer) Most() int {
	mtu := r.MTU
	if mtu == 0 {
		mtu = defaultMTU
	}
	return mtu - r.Overhead()
}

// Narrow tells whether a tunnel to r lacks the room for the packets of svc that
// every machine must take in one piece: nobody could be told to send less.
func (r RealServer) Narrow(svc ServiceKey) bool {
	least := leastIPv4
	if svc.VIP.Is6() {
		least = leastIPv6
	}
	return r.Tunnelled() && r.Most() < least
}
