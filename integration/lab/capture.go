// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"time"
)

const (
	capturedFrames = 4096 // as many of the last ones are kept
	capturedBytes  = 512  // of each
)

// capture keeps the beginnings of the last frames.
type capture struct {
	frames [capturedFrames]capturedFrame
	count  int // of all that there were
}

type capturedFrame struct {
	at     time.Time
	length int
	start  []byte
}

func (c *capture) add(frame []byte) {
	f := &c.frames[c.count%capturedFrames]
	c.count++
	f.at, f.length = time.Now(), len(frame)
	f.start = append(f.start[:0], frame[:min(len(frame), capturedBytes)]...)
}

// write writes the frames to a file in the format of libpcap, oldest first, with folders above it where they are
// missing.
func (c *capture) write(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, c.pcap(), 0o644)
}

// pcap returns the frames as https://www.ietf.org/archive/id/draft-ietf-opsawg-pcap-03.html says.
func (c *capture) pcap() []byte {
	const magic, major, minor, ethernet = 0xa1b2c3d4, 2, 4, 1 // with times in microseconds
	e := binary.LittleEndian
	b := e.AppendUint32(nil, magic)
	b = e.AppendUint16(b, major)
	b = e.AppendUint16(b, minor)
	b = append(b, make([]byte, 8)...)
	b = e.AppendUint32(b, capturedBytes)
	b = e.AppendUint32(b, ethernet)
	for i := max(0, c.count-capturedFrames); i < c.count; i++ {
		f := c.frames[i%capturedFrames]
		b = e.AppendUint32(b, uint32(f.at.Unix()))
		b = e.AppendUint32(b, uint32(f.at.Nanosecond()/1000))
		b = e.AppendUint32(b, uint32(len(f.start)))
		b = e.AppendUint32(b, uint32(f.length))
		b = append(b, f.start...)
	}
	return b
}
