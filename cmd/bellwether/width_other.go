//go:build !unix

package main

import "os"

// terminalWidth returns 0: nobody has taught us to ask.
func terminalWidth(*os.File) int { return 0 }
