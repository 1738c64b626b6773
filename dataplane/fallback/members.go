package fallback

import "systole/dataplane"

// Members are the planes that are there now, XDP first, for what only one of
// them can: show its flows, be observed. They are not the caller's to change or
// close.
func (p *Plane) Members() []dataplane.Plane {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []dataplane.Plane
	for _, m := range p.members {
		if m.Plane != nil {
			out = append(out, m.Plane)
		}
	}
	return out
}
