package config

import "slices"

// maxNICs is how many a data plane can be attached to (dataplane/xdp).
const maxNICs = 16

// NICs are all NICs that XDP attaches to.
func (d DataPlane) NICs() []string {
	if len(d.Interfaces) > 0 {
		return d.Interfaces
	}
	if d.Interface != "" {
		return []string{d.Interface}
	}
	return nil
}

// nics reads the NIC of the data plane, or several. set: there is something, if
// only what has been reported.
func (d *decoder) nics(m *mapping) (first string, several []string, set bool) {
	one := read(m, "interface", "", interfaceName)
	l := m.list("interfaces")
	set = one.set || one.bad || l.set || l.bad
	for i, n := range l.items {
		name := readNode(d, n, "interfaces", l.at, interfaceName)
		switch {
		case name.bad:
		case slices.Contains(several, name.val):
			d.errorf(name.at, "interfaces: %s is named twice: remove one", name.val)
		case i == maxNICs:
			d.errorf(name.at, "interfaces: %d of them, at most %d are possible", len(l.items), maxNICs)
		default:
			several = append(several, name.val)
		}
	}
	switch {
	case one.set && l.set:
		d.errorf(l.at, "interface and interfaces are both written: put all NICs under interfaces and remove interface")
	case l.set && len(l.items) == 0:
		d.errorf(l.at, "interfaces is empty: name the NICs that the clients' packets come in by, and those that lead to real servers")
	case len(several) > 0:
		return several[0], several, true
	}
	return one.val, nil, set
}
