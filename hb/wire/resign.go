package wire

// Resign appends to dst a packet that was encoded before, signed anew with the
// key k.Send: the same fields in the same form, except that those of replace
// take the place of the fields of that name. With an error it returns dst as
// it was.
//
// It is for a sender's own packets. The authenticator there is not looked at:
// the key it was made with may be gone.
func Resign(dst, packet []byte, k Keys, replace ...Field) ([]byte, error) {
	var d Decoder
	m, f, err := d.decode(packet, verifier{})
	if err != nil {
		return dst, err
	}
	for _, fld := range replace {
		m.set(fld)
	}
	return Encode(dst, m, f, k)
}
