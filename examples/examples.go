// Package examples carries the example fleet repositories, so that the demo runs
// from the binary alone.
package examples

import "embed"

// Quickstart is the fleet repository of the demo, under "quickstart".
//
//go:embed all:quickstart
var Quickstart embed.FS
