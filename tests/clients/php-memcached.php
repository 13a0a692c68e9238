<?php
// SPDX-License-Identifier: Apache-2.0
// What tests/clients/php-memcached runs: PHP's memcached extension against a server.
//     php php-memcached.php HOST:PORT text|binary [USER PASSWORD]
$passed = $failed = 0;

function same($what, $got, $want)
{
	global $passed, $failed;
	if ($got === $want) {
		$passed++;
		return;
	}
	$failed++;
	printf("FAILED %s\n  want %.200s\n  got  %.200s\n", $what, var_export($want, true), var_export($got, true));
}

[$host, $port] = explode(":", $argv[1]);
$binary = $argv[2] === "binary";
$m = new Memcached();
$m->setOptions([Memcached::OPT_COMPRESSION => false, Memcached::OPT_RECV_TIMEOUT => 10000000,
    Memcached::OPT_POLL_TIMEOUT => 10000, Memcached::OPT_BINARY_PROTOCOL => $binary, Memcached::OPT_TCP_NODELAY => true]);
if (isset($argv[4]))
	$m->setSaslAuthData($argv[3], $argv[4]);
$m->addServer($host, (int)$port);

if (($argv[4] ?? "") === "wrong") {
	same("a wrong password", $m->set("k", "v"), false);
	same("is why", $m->getResultCode(), Memcached::RES_AUTH_FAILURE);
	printf("%d passed, %d failed\n", $passed, $failed);
	exit($failed > 0 ? 1 : 0);
}
$exists = $binary ? Memcached::RES_DATA_EXISTS : Memcached::RES_NOTSTORED;

same("a miss", [$m->get("none"), $m->getResultCode()], [false, Memcached::RES_NOTFOUND]);
same("set", $m->set("k", "value"), true);
same("get", $m->get("k"), "value");
same("set of the same", $m->set("k", "value"), true);
same("set of another", [$m->set("k", "other"), $m->getResultCode()], [false, $exists]);
same("is what it was", $m->get("k"), "value");
same("add of what is there", [$m->add("k", "value"), $m->getResultCode()], [false, $exists]);
same("add", $m->add("new", "1"), true);
same("get of what was added", $m->get("new"), "1");
$cas = $m->get("k", null, Memcached::GET_EXTENDED)["cas"];
same("a cas", is_int($cas) && $cas != 0, true);
same("delete", $m->delete("k"), true);
same("delete again", [$m->delete("k"), $m->getResultCode()], [false, Memcached::RES_NOTFOUND]);
same("gone", $m->get("k"), false);
same("set anew", $m->set("k", "other"), true);
same("an array", [$m->set("array", ["a" => 1, "b" => [1.5, null]]), $m->get("array")], [true, ["a" => 1, "b" => [1.5, null]]]);
same("touch", $m->touch("new", 3600), true);
same("touch of a miss", [$m->touch("none", 3600), $m->getResultCode()], [false, Memcached::RES_NOTFOUND]);

same("an expiry of 30 days", [$m->set("month", "v", 2592000), $m->get("month")], [true, "v"]);
same("a date of 1970", [$m->set("past", "v", 2592001), $m->get("past")], [true, false]);

$large = str_repeat(hash("sha512", "large", true), 15000);
same("a large value", $m->set("large", $large), true);
same("comes back", $m->get("large") === $large, true);

$keys = $there = [];
for ($i = 0; $i < 300; $i++) {
	$keys[] = "m$i";
	if ($i % 3 == 0)
		$there["m$i"] = str_repeat("m$i", 20);
}
same("setMulti", $m->setMulti($there), true);
same("a multi-get", $m->getMulti($keys), $there);

// requests that the library keeps back and sends together, without waiting for answers between them
$m->setOption(Memcached::OPT_NOREPLY, true);
$m->setOption(Memcached::OPT_BUFFER_WRITES, true);
for ($i = 0; $i < 500; $i++)
	$m->set("p$i", "pipelined $i");
same("flush of the buffers", $m->flushBuffers(), true);
$m->setOption(Memcached::OPT_NOREPLY, false);
$m->setOption(Memcached::OPT_BUFFER_WRITES, false);
$right = 0;
for ($i = 0; $i < 500; $i++) {
	for ($wait = 0; $wait < 2000 && $m->get("p$i") === false; $wait++)
		usleep(5000);
	$right += $m->get("p$i") === "pipelined $i";
}
same("what was pipelined", $right, 500);
same("getDelayed", $m->getDelayed(["p1", "none", "p2"]), true);
same("fetchAll", array_column($m->fetchAll(), "value", "key"), ["p1" => "pipelined 1", "p2" => "pipelined 2"]);

same("increment is refused", $m->increment("new"), false);
same("append is refused", $m->append("new", "x"), false);
same("replace is refused", $m->replace("new", "2"), false);
same("flush is refused", $m->flush(), $binary); // in binary libmemcached says yes whatever was answered; the values stay
same("too large", $m->set("huge", random_bytes(1100000)), false);
same("in step", $m->get("new"), "1");

echo "restart\n";
fgets(STDIN);
for ($end = time() + 30; $m->get("k") === false && time() < $end;)
	usleep(100000);
same("after a restart of the server", $m->get("k"), "other");
same("the large one", $m->get("large") === $large, true);
same("quit", $m->quit(), true);
same("connects anew", $m->get("k"), "other");

printf("%d passed, %d failed\n", $passed, $failed);
exit($failed > 0 ? 1 : 0);
