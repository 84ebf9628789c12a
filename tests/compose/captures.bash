#!/usr/bin/env bash
# What run sources: the checks of the lab that look at packets, or lose them.
# shellcheck disable=SC2154  # lab, scratch: those of run

# sequence FILE: the packets with data or flags of a capture, in one line: direction, flags or protocol, length.
sequence() {
    tcpdump -n -r "$1" port 4141 2>/dev/null | sed -nE '
        s/^.* IP 198\.18\.41\.20\.[0-9]+ > 198\.18\.41\.10\.4141: (.*)/>\1/
        s/^.* IP 198\.18\.41\.10\.4141 > 198\.18\.41\.20\.[0-9]+: (.*)/<\1/
        s/^(.)Flags \[\.\].* length 0$//
        s/^(.)Flags \[([^]]+)\].* length ([0-9]+).*/\1\2\3/p
        s/^(.)UDP, length ([0-9]+)/\1\2/p' | paste -sd ' '
}

same() {
    echo "$2"
    [[ $1 = "$2" ]] || { echo "instead of $1" && return 1; }
}

# The handshake, haii, its upcall, the close.
tcp_session='>S0 <S.0 >P.5 <P.30 >F.0 <F.0'

bridge() {
    tcpdump -ni upcall0 -U --immediate-mode -w "$scratch/bridge.pcap" 2>"$scratch/tcpdump" &
    local capture=$!
    within 10 grep -q 'listening on upcall0' "$scratch/tcpdump"
    talk
    within 5 ended "$scratch/bridge.pcap"
    kill "$capture"
    wait "$capture" || true
    same "$tcp_session" "$(sequence "$scratch/bridge.pcap")"
}

ended() {
    [[ $(sequence "$1") = *'<F.0' ]]
}

# capture NAME COMMAND…: what the profile captures of it.
capture() {
    local file=$lab/compose/captures/$1.pcap
    CAPTURE=$1 compose up -d upcall-capture
    within 10 test -s "$file"
    within 10 sh -c 'docker logs upcall-capture 2>&1 | grep "listening on eth0"'
    shift
    "$@"
    compose stop upcall-capture
    tcpdump -n -r "$file" >/dev/null
    [[ $(stat -c %u "$file") = $(stat -c %u "$lab/compose/captures") ]]
}

profile() {
    capture lab talk
    same "$tcp_session" "$(sequence "$lab/compose/captures/lab.pcap")"
}

profile_udp() {
    capture udp talk --transport udp
    # join, the cookie, the cookie again; haii and its upcall; bye and the cookie. A renewal may come between.
    [[ $(sequence "$lab/compose/captures/udp.pcap") =~ ^\>22\ \<22\ \>22\ .*\>5\ \<30\ .*\>21$ ]]
    sequence "$lab/compose/captures/udp.pcap"
}

profile_unix() {
    capture unix talk --transport unix
    same '' "$(sequence "$lab/compose/captures/unix.pcap")"
    echo "nothing"
}

dissects() {
    local pcap frames
    for pcap in lab udp; do
        frames=$(tshark -r "$lab/compose/captures/$pcap.pcap" -X "lua_script:$lab/compose/wireshark/upcall.lua" \
            -Y upcall -T fields -e ip.src 2>/dev/null)
        grep -qx '198\.18\.41\.20' <<<"$frames"
        grep -qx '198\.18\.41\.10' <<<"$frames"
        echo "$pcap.pcap: $(wc -l <<<"$frames") frames"
    done
}

loss() {
    local rule=(INPUT -p udp --sport 4141 -m statistic --mode random --probability 0.5 -j DROP)
    client timeout 60 upcall-client --transport udp listen -n 20 >"$scratch/heard" &
    local listener=$!
    within 20 listens
    compose exec -T --user root upcall-client iptables -A "${rule[@]}"
    # shellcheck disable=SC2016
    client sh -c 'seq 20 | while read -r n; do echo "$n"; sleep .05; done | upcall-client send -'
    wait "$listener"
    seq 20 | diff - "$scratch/heard"
    compose exec -T --user root upcall-client iptables -nvxL INPUT | awk '/statistic/ { lost = $1 } END { print lost, "packets lost, 0 upcalls" ; exit !lost }'
    compose exec -T --user root upcall-client iptables -F INPUT
}

# Whether an endpoint is registered now.
listens() {
    compose kill -s USR1 upcall-server
    log | grep -E 'summary: [0-9]+ endpoint' | tail -n 1 | grep -vE 'summary: 0 endpoints|, 0 of them registered'
}
