// SPDX-License-Identifier: Apache-2.0

package nstest

import (
	"fmt"
	"os/exec"
	"strings"
)

// Run runs commands, whose words are separated by spaces, in the namespaces of its caller's thread. The error has what
// the one that failed has printed.
func Run(commands ...string) error {
	for _, command := range commands {
		args := strings.Fields(command)
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", command, err, out)
		}
	}
	return nil
}
