// SPDX-License-Identifier: Apache-2.0

module valcached/tests/linear/check

go 1.19

require github.com/anishathalye/porcupine v1.3.1
