// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/api"
)

// newCaptureCommand returns `weave capture`.
func newCaptureCommand() *cobra.Command {
	var what api.Capture
	var file string
	cmd := &cobra.Command{
		Use:   "capture A [B]",
		Short: "Capture what passes a container, or between two, for tcpdump and Wireshark",
		Long: "Capture what passes the endpoint of a container, or between those of two, and write it as pcapng,\n" +
			"with the container end and the host end as interfaces of their own: so one sees where a packet gets\n" +
			"lost. It ends with Ctrl-C, at a limit, or after an hour. Nothing is needed in the container. Only root\n" +
			"can do that.\n\n" +
			"A and B are names or ids of containers that are on one network only, or ids of endpoints. The filter\n" +
			"is in the language of tcpdump, as far as it is about hosts, nets, ports and protocols.",
		Example: "  weave capture web | tcpdump -n -r -\n" +
			"  weave capture web db --filter 'tcp port 5432' -w between.pcapng\n" +
			"  weave capture web --packets 100 --time 1m -w web.pcapng\n" +
			"  ssh host sudo weave capture web | wireshark -k -i -",
		Args: cobra.RangeArgs(1, 2),
	}
	cmd.Flags().StringVarP(&file, "write", "w", "-", "`file` to write to; - is the standard output")
	cmd.Flags().StringVar(&what.Filter, "filter", "", "`expression` that packets have to match: "+
		"'tcp port 80 and not host 10.32.0.9'")
	cmd.Flags().IntVarP(&what.Packets, "packets", "c", 0, "end after so many packets")
	cmd.Flags().Int64Var(&what.Bytes, "bytes", 0, "end after so many bytes of packets")
	cmd.Flags().DurationVar(&what.Time, "time", 0, "end after a `time` such as 30s, 1h at most")
	cmd.ValidArgsFunction = completeContainers
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		what.Endpoints = args
		if err := checkLimits(what); err != nil {
			return err
		}
		return writeCapture(cmd, what, file)
	}
	return cmd
}

func checkLimits(what api.Capture) error {
	switch {
	case what.Packets < 0 || what.Bytes < 0:
		return errors.New("--packets and --bytes: want at least 1")
	case what.Time != 0 && (what.Time < time.Second || what.Time > api.MaxCaptureTime || what.Time%time.Second != 0):
		return fmt.Errorf("--time %v: want full seconds from 1s to 1h", what.Time)
	}
	return nil
}

// writeCapture writes a capture to the file, or to the command's output for -, until it is interrupted or ends.
func writeCapture(cmd *cobra.Command, what api.Capture, file string) (err error) {
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, unix.SIGTERM)
	defer stop()
	w := cmd.OutOrStdout()
	if file == "-" {
		if isTerminal(w) {
			return errors.New("the standard output is a terminal: give a file (-w FILE), or a pipe to tcpdump -n -r -")
		}
	} else {
		f := &lateFile{path: file}
		defer func() { err = errors.Join(err, f.Close()) }()
		w = f
	}
	return newClient(cmd).Capture(ctx, w, what, func(problem string) {
		_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "weave: %s\n", printable(problem, "")) // the capture goes on
	})
}

// lateFile is a file that is made, or emptied, with its first write: a capture that is refused leaves an earlier one as
// it is.
type lateFile struct {
	path string
	file *os.File
}

// Write writes to the file.
func (f *lateFile) Write(b []byte) (n int, err error) {
	if f.file == nil {
		if f.file, err = os.OpenFile(f.path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600); err != nil {
			return 0, err
		}
	}
	return f.file.Write(b)
}

// Close closes the file, if there is one.
func (f *lateFile) Close() error {
	if f.file == nil {
		return nil
	}
	return f.file.Close()
}

// isTerminal reports whether a writer is a terminal, which pcapng would only confuse.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
