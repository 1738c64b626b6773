// Package metrics renders a director's State for Prometheus. It keeps no
// counters of its own: a scrape is one State, so what `systole status` says
// and what the graphs say cannot differ.
//
// Names: prefix systole_, base units, _total and _seconds; a state is one gauge
// per possible value with a label and 0 or 1.
package metrics
