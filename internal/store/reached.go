package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// reachedName is a file with the revision that the records have reached, as a
// witness outside the engine: some damage makes it come up, without a word, with
// the records as they once were. The file is not synced, so it may lag behind
// after a power cut, but it never runs ahead of what was acknowledged.
const reachedName = "reached"

const reachedFormat = "%020d %08x\n"

func openReached(dir string) (*os.File, error) {
	return os.OpenFile(filepath.Join(dir, reachedName), os.O_RDWR|os.O_CREATE, 0o600)
}

// note writes the revision of a commit that was acknowledged.
func (s *Store) note(revision uint64) {
	line := fmt.Sprintf(reachedFormat, revision, checksum(reachedName, strconv.AppendUint(nil, revision, 10)))
	if _, err := s.reached.WriteAt([]byte(line), 0); err != nil {
		s.log.Warn("revision reached not noted", "err", err)
	}
}

// noted returns the highest revision that the file or a checkpoint bears witness of.
func (s *Store) noted() (uint64, error) {
	files, err := s.Checkpoints()
	if err != nil {
		return 0, err
	}
	var reached uint64
	if len(files) > 0 {
		name := strings.TrimSuffix(filepath.Base(files[len(files)-1]), checkpointSuffix)
		reached, err = strconv.ParseUint(name, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("checkpoint %s: %w", files[len(files)-1], err)
		}
	}
	line := make([]byte, len(fmt.Sprintf(reachedFormat, 0, 0)))
	if n, _ := s.reached.ReadAt(line, 0); n < len(line) {
		return reached, nil // never written
	}
	revision, sum, err := parseReached(string(line))
	if err != nil || sum != checksum(reachedName, strconv.AppendUint(nil, revision, 10)) {
		s.log.Warn("the file of the revision reached is damaged and not counted on", "file", s.reached.Name())
		return reached, nil
	}
	return max(reached, revision), nil
}

func parseReached(line string) (revision uint64, sum uint32, err error) {
	number, check, _ := strings.Cut(strings.TrimSpace(line), " ")
	revision, errNumber := strconv.ParseUint(number, 10, 64)
	sum64, errSum := strconv.ParseUint(check, 16, 32)
	return revision, uint32(sum64), errors.Join(errNumber, errSum)
}
