//go:build !unix

package store

import (
	"errors"
	"os"
)

// lockDir refuses: without a lock that ends with the process, two of them could
// write one directory.
func lockDir(string) (*os.File, error) {
	return nil, errors.New("a data directory can only be locked on Unix")
}
