//! Values, keys and tables, one mistake at a time.

use super::{assert_mistakes, with_transport};

#[test]
fn values() {
    for (text, place, words) in [
        ("[upcall]\nmax_message = \"60K\"", "2:15", "unknown unit \"K\" in \"60K\"; did you mean \"60KiB\"?"),
        (
            "[upcall]\nmax_message = true",
            "2:15",
            "\"max_message\" takes a size, not a boolean; write for example max_message = \"16MiB\"",
        ),
        ("[upcall]\nmax_message = 0", "2:15", "no unit; write \"0KiB\""),
        ("[upcall]\nmax_message = \"0B\"", "2:15", "zero"),
        ("[upcall]\nmax_message = -1", "2:15", "no unit"),
        ("[upcall]\nmax_message = 99999999999999999999", "2:15", "no unit"),
        ("[upcall]\nmessage_timeout = \"0s\"", "2:19", "\"forever\""),
        ("[upcall]\nmessage_timeout = \"never\"", "2:19", "not a duration"),
        ("[upcall]\ndeliver_to = \"al\"", "2:14", "unknown deliver_to \"al\"; did you mean \"all\"?"),
        ("[upcall]\ndeliver_to = \"everybody\"", "2:14", "it is one of all, others, sender"),
        ("[upcall]\nformat = \"got {dta}\"", "2:15", "unknown field {dta}; did you mean {data}?"),
        ("[upcall]\nformat = 'got {'", "2:15", "write {{"),
        ("[upcall]\nformat = \"\\u0041{\"", "2:10", "write {{"),
        ("[upcall]\nformat = [\"{data}\"]", "2:10", "\"format\" takes a string, not an array"),
        ("[registry]\nmax_endpoints = 0", "2:17", "from 1 to"),
        ("[registry]\nmax_endpoints = \"10\"", "2:17", "\"max_endpoints\" takes a whole number, not a string"),
        ("[registry]\nmax_endpoints = 1.5", "2:17", "not a float"),
        ("[registry]\nlease = \"0s\"", "2:9", "zero"),
        ("[registry]\nlease = \"5\"", "2:9", "\"5\" has no unit; write \"5s\""),
        ("[registry]\nlease = 5", "2:9", "5 has no unit; write \"5s\""),
        ("[registry]\nlease = \"5M\"", "2:9", "for minutes write \"5min\""),
        ("[registry]\nsession_ttl = \"31days\"", "2:15", "30 days"),
        ("[daemon]\nshutdown_grace = 2020-01-01", "2:18", "\"shutdown_grace\" takes a duration, not a date"),
        (
            "[daemon]\nlog_level = \"warning\"",
            "2:13",
            "unknown log_level \"warning\"; it is one of error, warn, info, debug",
        ),
        ("[daemon]\nlog_format = \"jsn\"", "2:14", "unknown log_format \"jsn\"; did you mean \"json\"?"),
        (
            "[daemon]\nlog_inputs = true",
            "2:14",
            "\"log_inputs\" takes a string, not a boolean; write for example log_inputs = \"auto\"",
        ),
        ("[log]\nsize = \"512KiB\"", "2:8", "from 1MiB to 4GiB"),
        ("log.size = \"5GiB\"", "1:12", "from 1MiB to 4GiB"),
        ("[slow_consumer]\npolicy = \"Skip\"", "2:10", "unknown policy \"Skip\"; did you mean \"skip\"?"),
        ("[slow_consumer]\npatience = \"for ever\"", "2:12", "not a duration"),
        ("[slow_consumer]\nmax_behind = { }", "2:14", "not a table"),
        ("# ü\n[upcall]\nformat='ü' \nmax_message='ü'", "4:13", "not a size"),
    ] {
        assert_mistakes(text, &[(place, words)]);
    }
}

#[test]
fn keys_and_tables() {
    for (text, place, words) in [
        ("lisener = []", "1:1", "unknown key \"lisener\"; did you mean \"listener\"?"),
        ("[slow-consumer]\nmax_behind = 1", "1:2", "did you mean \"slow_consumer\"?"),
        ("[[listeners]]\nname = 5", "1:3", "did you mean \"listener\"?"),
        ("[quotas]\nx = 1", "1:2", "unknown key \"quotas\"; it is one of listener, upcall"),
        ("max_message = 1", "1:1", "unknown key \"max_message\"; it belongs in [upcall]"),
        ("[log]\nlevel = 1", "2:1", "unknown key \"level\" in [log]; it is one of size"),
        ("[registry]\n  leese = 5", "2:3", "unknown key \"leese\" in [registry]; did you mean \"lease\"?"),
        ("[upcall]\npolicy = \"skip\"", "2:1", "it belongs in [slow_consumer]"),
        ("[listener]\ntransport = \"tcp\"", "1:1", "write [[listener]], in double brackets"),
        ("listener = [1]", "1:13", "a listener is a table, not an integer"),
        ("listener = []", "1:12", "empty list"),
        ("[[log]]\nsize = \"1MiB\"", "1:1", "\"log\" is a table, not an array; write [log]"),
        ("registry = 5", "1:12", "\"registry\" is a table, not an integer"),
        ("[[listener]]\naddress = \"127.0.0.1:1\"", "1:1", "no \"transport\""),
        ("[[listener]]\ntransport = \"tcp\"", "1:1", "no \"address\""),
        // The misspelt key was meant for the address, so the address is not reported as missing as well.
        ("[[listener]]\ntransport = \"tcp\"\nadress = \"127.0.0.1:1\"", "3:1", "did you mean \"address\"?"),
    ] {
        assert_mistakes(text, &[(place, words)]);
    }
    assert_mistakes(&with_transport("tcp", "127.0.0.1:1", "lease = \"1s\""), &[("4:1", "it belongs in [registry]")]);
    assert_mistakes(&with_transport("tcp", "127.0.0.1:1", "colour = 1"), &[("4:1", "--print-config")]);
}

#[test]
fn sizes_that_do_not_fit_into_each_other() {
    for (text, place, words) in [
        ("[upcall]\nmax_message = \"5MiB\"", "2:15", "max_message (5MiB) is more than max_behind (4MiB)"),
        ("[slow_consumer]\nmax_behind = \"1KiB\"", "2:14", "max_message (60KiB) is more than max_behind (1KiB)"),
        ("[slow_consumer]\nmax_behind = \"60KiB\"", "2:14", "becomes larger than max_behind (60KiB)"),
        ("[slow_consumer]\nmax_behind = \"100KiB\"\n[upcall]\nformat='{data}{data}'", "4:8", "with this format"),
        (
            "[slow_consumer]\nmax_behind = \"9MiB\"",
            "2:14",
            "max_behind (9MiB) of [slow_consumer] is more than half of size (16MiB)",
        ),
        ("[log]\nsize = \"4MiB\"", "2:8", "max_behind (4MiB) of [slow_consumer] is more than half of size (4MiB)"),
        // Nothing is concluded from a value that is wrong by itself.
        ("[log]\nsize = \"4M\"\n[slow_consumer]\nmax_behind = \"9MiB\"", "2:8", "did you mean \"4MiB\"?"),
        ("[slow_consumer]\nmax_behind = \"0B\"\n[upcall]\nmax_message = \"9MiB\"", "2:14", "zero"),
    ] {
        assert_mistakes(text, &[(place, words)]);
    }
}
