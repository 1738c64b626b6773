package config

import _ "embed"

// Reference is a configuration with every key there is, and what each means:
// the documentation of the file, and itself a right one for node1 and node2.
//
//go:embed systole.reference.yaml
var Reference []byte
