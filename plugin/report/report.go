// SPDX-License-Identifier: Apache-2.0

// Package report gathers what somebody who looks into a fault of weave has to know, into one archive.
//
// It runs in the host's network namespace. What is in the archive comes from its sources; this package adds nothing of
// the environment, and of the log leaves out what Docker's calls carry, since users put secrets into options and
// labels.
package report

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// maxFile is how large one file of a report can be, in bytes.
const maxFile = 16 << 20

// Source is a file of a report.
type Source struct {
	Name string
	Read func(context.Context) ([]byte, error)
}

// Write writes an archive, a compressed tar, with a file of each source. What a source can't read is told in a file
// beside, NAME.error, with as much of the file as there is.
func Write(ctx context.Context, w io.Writer, sources []Source) error {
	compressed := gzip.NewWriter(w)
	archive := tar.NewWriter(compressed)
	for _, s := range sources {
		content, err := s.Read(ctx)
		if len(content) > maxFile {
			content, err = content[:maxFile], errors.Join(err, fmt.Errorf("cut off after %d bytes", maxFile))
		}
		if len(content) > 0 {
			if err := add(archive, s.Name, content); err != nil {
				return err
			}
		}
		if err != nil {
			if err := add(archive, s.Name+".error", []byte(err.Error()+"\n")); err != nil {
				return err
			}
		}
	}
	if err := errors.Join(archive.Close(), compressed.Close()); err != nil {
		return fmt.Errorf("end the archive: %w", err)
	}
	return nil
}

func add(archive *tar.Writer, name string, content []byte) error {
	header := &tar.Header{Name: "weave-report/" + name, Mode: 0o600, Size: int64(len(content)), ModTime: time.Now()}
	if err := archive.WriteHeader(header); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if _, err := archive.Write(content); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}
