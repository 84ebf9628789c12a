-- A Wireshark dissector for what upcalld speaks: text, and the native protocol of upcall-protocol(7), whose names the fields
-- have (upcall.kind, upcall.sequence, ...). TCP and UDP, port 4141; for others the preference upcall.ports or "Decode As";
-- a native session is recognized at any port, if its beginning is in the capture.
--
-- To install: copy it, or link to it, in the folder "Personal Lua Plugins" (see Help > About Wireshark > Folders), which on
-- Linux is ~/.local/lib/wireshark/plugins. For once: wireshark -X lua_script:upcall.lua. For Wireshark 4.0 and later.
--
-- It knows connections by addresses and ports, and what goes over them by its bytes alone: Wireshark reads a file without
-- the fields of TCP when nobody needs them. What has to be remembered is learnt when a frame is seen for the first time.

local upcall = Proto("upcall", "Upcall Protocol")

upcall.prefs.ports = Pref.range("Ports", "4141", "TCP and UDP ports of daemons", 65535)
upcall.prefs.prefix = Pref.string("Beginning of upcalls in text", "Upcall event: Processing ",
    "What stands before {data} in the daemon's [upcall] format. It tells upcalls without a newline apart.")

-- What the page names ---------------------------------------------------------------------------------------------------

local CLIENT, DAEMON, BOTH = "client", "daemon", "both"
local MAX_BODY = 16384        -- of a frame that is neither SEND nor UPCALL
local MAX_LONG = 2 ^ 28       -- of those two: no daemon has such messages

-- Kind: name, who sends it, smallest and largest body, largest one aside where it is not limited. What reads the body follows.
local KINDS = {
    [0x01] = { name = "HELLO", by = CLIENT, least = 12 },
    [0x02] = { name = "SEND", by = CLIENT, least = 8, most = MAX_LONG, topic = true, flags = 0x01 },
    [0x03] = { name = "SUBSCRIBE", by = CLIENT, least = 5 },
    [0x04] = { name = "UNSUBSCRIBE", by = CLIENT, least = 5 },
    [0x05] = { name = "ACK", by = CLIENT, least = 16, most = 16, datagrams = true },
    [0x06] = { name = "REPLY", by = CLIENT, least = 10, reserved = true },
    [0x20] = { name = "DATAGRAM", by = BOTH, least = 0 },
    [0x40] = { name = "PING", by = BOTH, least = 8, most = 16 },
    [0x41] = { name = "PONG", by = BOTH, least = 8, most = 8 },
    [0x42] = { name = "BYE", by = BOTH, least = 0, most = 64 },
    [0x81] = { name = "WELCOME", by = DAEMON, least = 88, most = 88 },
    [0x82] = { name = "RETRY", by = DAEMON, least = 16, most = 16, datagrams = true },
    [0x83] = { name = "UPCALL", by = DAEMON, least = 24, most = MAX_LONG, topic = true },
    [0x84] = { name = "RECEIPT", by = DAEMON, least = 20, most = 20, flags = 0x10 },
    [0x85] = { name = "GAP", by = DAEMON, least = 20, most = 20 },
    [0x86] = { name = "SUBSCRIBED", by = DAEMON, least = 12, flags = 0x10 },
    [0x87] = { name = "ERROR", by = DAEMON, least = 12 },
}
local SKIPPABLE_KIND, SKIPPABLE_OPTION = 0xc0, 0x80
local HELLO, SEND, SUBSCRIBE, UNSUBSCRIBE, DATAGRAM, PING = 0x01, 0x02, 0x03, 0x04, 0x20, 0x40
local WELCOME, RETRY, ERROR = 0x81, 0x82, 0x87

local ROLES = { [0] = "both", [1] = "send only", [2] = "receive only" }

-- Code: name, and whether it is fatal on a stream.
local CODES = {
    { "malformed", true }, { "unknown_kind", true }, { "unknown_flag", true }, { "too_large", true },
    { "unexpected", true }, { "version", true }, { "unauthorized", true }, { "refused", true },
    { "not_permitted" }, { "stale" }, { "busy" }, { "unknown_session" }, { "limit" }, { "bad_topic" },
    { "out_of_order", true },
}
local GAPS = { "slow_consumer", "evicted", "too_large" }
local REASONS = {
    closed = "the client has left; everything due was sent",
    superseded = "the session was resumed elsewhere",
    slow_consumer = "the endpoint fell too far behind",
    message_too_large = "a message of text was too large",
    message_timeout = "a frame was not complete in time",
    silent = "no HELLO came in time",
    credentials_required = "text was sent to a listener that wants a token",
    protocol = "the protocol was broken, or the listener speaks another",
    http = "an HTTP request is not for us",
    output_only = "text was sent to a listener for output",
    listener_removed = "the listener is no longer configured",
    shutdown = "the daemon ends",
    max_endpoints = "the daemon has as many endpoints as it may",
    listener_max_endpoints = "the listener has as many endpoints as it may",
    max_per_source = "this address has as many endpoints as it may",
    not_allowed = "the listener's rules do not admit this address",
    reset = "in the daemon's log only",
    dead = "in the daemon's log only",
    lease_expired = "in the daemon's log only",
}

local function names(table_of_rows)
    local result = {}
    for number, row in pairs(table_of_rows) do result[number] = row.name or row[1] end
    return result
end

-- Fields ----------------------------------------------------------------------------------------------------------------

local OPTION_NAMES = { "NAME", "TOKEN", "FILTER", "RESUME", "SINCE", "COOKIE", "PADDING" }
local f = {
    -- The header of a frame.
    kind = ProtoField.uint8("upcall.kind", "Kind", base.HEX, names(KINDS)),
    flags = ProtoField.uint8("upcall.flags", "Flags", base.HEX),
    flag_receipt = ProtoField.bool("upcall.flags.receipt", "RECEIPT: one is wanted", 8, nil, 0x01),
    flag_repeat = ProtoField.bool("upcall.flags.repeat", "REPEAT: it had been appended before", 8, nil, 0x10),
    flag_everything = ProtoField.bool("upcall.flags.everything", "EVERYTHING: no filter was ever given", 8, nil, 0x10),
    topic_length = ProtoField.uint8("upcall.topic_length", "Length of the topic"),
    length = ProtoField.uint32("upcall.length", "Length of the body"),
    body = ProtoField.bytes("upcall.body", "Body"),
    -- Sessions.
    lowest = ProtoField.uint8("upcall.version.lowest", "Lowest version"),
    highest = ProtoField.uint8("upcall.version.highest", "Highest version"),
    role = ProtoField.uint8("upcall.role", "Role", base.DEC, ROLES),
    nonce = ProtoField.uint64("upcall.nonce", "Nonce", base.HEX),
    option = ProtoField.uint8("upcall.option", "Option", base.DEC, OPTION_NAMES),
    option_length = ProtoField.uint16("upcall.option.length", "Length"),
    option_value = ProtoField.bytes("upcall.option.value", "Value"),
    name = ProtoField.string("upcall.name", "Name"),
    token = ProtoField.string("upcall.token", "Token (secret)"),
    filter = ProtoField.string("upcall.filter", "Filter"),
    endpoint = ProtoField.uint64("upcall.endpoint", "Endpoint id"),
    secret = ProtoField.bytes("upcall.secret", "Secret"),
    last = ProtoField.uint64("upcall.last", "Last (the client's position)"),
    since = ProtoField.uint64("upcall.since", "Since"),
    cookie = ProtoField.uint64("upcall.cookie", "Cookie", base.HEX),
    padding = ProtoField.bytes("upcall.padding", "Padding"),
    version = ProtoField.uint8("upcall.version", "Version"),
    resumed = ProtoField.bool("upcall.resumed", "The session was resumed", 8, nil, 0x01),
    lease = ProtoField.uint32("upcall.lease", "Lease (ms)"),
    key = ProtoField.uint64("upcall.key", "Key", base.HEX),
    log_id = ProtoField.uint64("upcall.log_id", "Log id", base.HEX),
    start = ProtoField.uint64("upcall.start", "Start"),
    next = ProtoField.uint64("upcall.next", "Next"),
    last_message_id = ProtoField.uint64("upcall.last_message_id", "Last message id"),
    largest_payload = ProtoField.uint32("upcall.largest_payload", "Largest payload (bytes)"),
    -- Inputs, upcalls, gaps.
    message_id = ProtoField.uint64("upcall.message_id", "Message id"),
    topic = ProtoField.string("upcall.topic", "Topic"),
    payload = ProtoField.bytes("upcall.payload", "Payload"),
    sequence = ProtoField.uint64("upcall.sequence", "Sequence"),
    due = ProtoField.uint32("upcall.due", "Endpoints that it was due to, the sender excluded"),
    source = ProtoField.uint64("upcall.source", "Source (endpoint id)"),
    received = ProtoField.absolute_time("upcall.received", "Received by the daemon", base.UTC),
    prev = ProtoField.uint32("upcall.prev", "Prev (low 32 bits of the position before)"),
    gap_first = ProtoField.uint64("upcall.gap.first", "First"),
    gap_last = ProtoField.uint64("upcall.gap.last", "Last"),
    gap_reason = ProtoField.uint8("upcall.gap.reason", "Reason", base.DEC, GAPS),
    status = ProtoField.uint16("upcall.status", "Status"),
    -- Requests, and what ends something.
    request_id = ProtoField.uint32("upcall.request_id", "Request id"),
    from = ProtoField.uint64("upcall.from", "From sequence"),
    reason = ProtoField.string("upcall.reason", "Reason"),
    code = ProtoField.uint16("upcall.error.code", "Code", base.DEC, names(CODES)),
    about = ProtoField.uint8("upcall.error.kind", "About", base.HEX, names(KINDS)),
    reference = ProtoField.uint64("upcall.error.reference", "Reference"),
    error_text = ProtoField.string("upcall.error.text", "Text"),
    -- Datagrams.
    number = ProtoField.uint64("upcall.number", "Number of the datagram"),
    ack_largest = ProtoField.uint64("upcall.ack.largest", "Largest number that arrived"),
    ack_bitmap = ProtoField.uint64("upcall.ack.bitmap", "Bitmap of those before", base.HEX),
    ack_number = ProtoField.uint64("upcall.ack.number", "Arrived"),
    -- Text.
    text = ProtoField.string("upcall.text", "Text"),
    text_kind = ProtoField.string("upcall.text.kind", "It is"),
    text_cookie = ProtoField.string("upcall.text.cookie", "Cookie"),
    -- What is deduced.
    sent_by = ProtoField.string("upcall.sent_by", "Sent by"),
    request_in = ProtoField.framenum("upcall.request_in", "The request is in frame", base.NONE, frametype.REQUEST),
    response_in = ProtoField.framenum("upcall.response_in", "The response is in frame", base.NONE, frametype.RESPONSE),
    upcall_in = ProtoField.framenum("upcall.upcall_in", "The sender's own upcall is in frame", base.NONE, frametype.RESPONSE),
    time = ProtoField.relative_time("upcall.time", "Time since the request"),
    repeats = ProtoField.framenum("upcall.repeats", "It was there before, in frame", base.NONE, frametype.RETRANS_PREV),
    acked_in = ProtoField.framenum("upcall.acked_in", "Acknowledged in frame", base.NONE, frametype.ACK),
}
upcall.fields = f

local function warning(name, text, group, severity)
    return ProtoExpert.new("upcall.expert." .. name, text, group, severity)
end
local e = {
    malformed = warning("malformed", "Not as upcall-protocol(7) says", expert.group.MALFORMED, expert.severity.ERROR),
    unexpected = warning("unexpected", "This cannot come here", expert.group.PROTOCOL, expert.severity.WARN),
    unknown = warning("unknown", "Not known, and to be skipped", expert.group.UNDECODED, expert.severity.NOTE),
    gap = warning("gap", "Gap", expert.group.SEQUENCE, expert.severity.WARN),
    hole = warning("hole", "An upcall is missing", expert.group.SEQUENCE, expert.severity.WARN),
    repeated = warning("repeated", "It was there before", expert.group.SEQUENCE, expert.severity.NOTE),
    fatal = warning("fatal", "Fatal error", expert.group.RESPONSE_CODE, expert.severity.ERROR),
    error = warning("error", "Error", expert.group.RESPONSE_CODE, expert.severity.WARN),
    ended = warning("ended", "The daemon ended it", expert.group.RESPONSE_CODE, expert.severity.WARN),
}
upcall.experts = e

-- What is remembered ----------------------------------------------------------------------------------------------------

local conversations    -- "port port" → the conversations between these ports
local sessions         -- key of a datagram session → session
local frames           -- number of a frame → how it was understood when it was first seen
local notes            -- "frame:message" → what is known about that message

function upcall.init()
    conversations, sessions, frames, notes = {}, {}, {}, {}
end

-- asked: what waits for its answer. inputs: those that may come back as upcalls. mine: inputs by their sequence, from
-- receipts. seen: sequences, their low 32 bits, that upcalls may name as prev.
local function new_session()
    return { asked = {}, inputs = {}, mine = {}, own = {}, seen = {}, numbers = {} }
end

local function daemon_port(tvb, pinfo)
    local kind = tvb:len() > 1 and tvb(0, 1):uint() == 0 and KINDS[tvb(1, 1):uint()]
    if kind and kind.by ~= BOTH then return kind.by == CLIENT and pinfo.dst_port or pinfo.src_port end
    if pinfo.match_uint == pinfo.dst_port or pinfo.match_uint == pinfo.src_port then return pinfo.match_uint end
    return math.min(pinfo.src_port, pinfo.dst_port)
end

-- The conversation of a frame that is seen for the first time. At the same ports a new connection may follow one that ended.
local function find_conversation(tvb, pinfo, is_stream)
    local low, high = math.min(pinfo.src_port, pinfo.dst_port), math.max(pinfo.src_port, pinfo.dst_port)
    local ports = (is_stream and "tcp " or "udp ") .. low .. " " .. high
    local here = conversations[ports] or {}
    conversations[ports] = here
    for index, known in ipairs(here) do
        local forth = known.client == pinfo.src and known.client_port == pinfo.src_port and known.daemon == pinfo.dst
        local back = known.client == pinfo.dst and known.client_port == pinfo.dst_port and known.daemon == pinfo.src
        if forth and known.ended and is_stream then
            table.remove(here, index)
        elseif forth or back then
            return known, forth
        end
    end
    local forth = daemon_port(tvb, pinfo) == pinfo.dst_port
    local new = { session = new_session(), to_daemon = {}, to_client = {} }
    new.client, new.daemon = pinfo.src, pinfo.dst
    new.client_port = pinfo.src_port
    if not forth then
        new.client, new.daemon, new.client_port = pinfo.dst, pinfo.src, pinfo.dst_port
    end
    table.insert(here, new)
    return new, forth
end

-- A message: a frame, the header of a datagram, or a message of text. `m` holds what the functions below need to know.
local function message(context, range, session)
    local pinfo = context.pinfo
    local ordinal = tonumber(pinfo.private.upcall_messages or "0") + 1
    pinfo.private.upcall_messages = tostring(ordinal)
    local key = pinfo.number .. ":" .. ordinal
    notes[key] = notes[key] or { frame = pinfo.number, time = pinfo.rel_ts }
    local m = { context = context, is_new = not pinfo.visited, conversation = context.conversation, note = notes[key],
        to_daemon = context.to_daemon, session = session, tree = context.tree:add(upcall, range) }
    m.tree:add(f.sent_by, m.to_daemon and CLIENT or DAEMON):set_generated()
    return m
end

local function remark(m, kind, text)
    m.tree:add_proto_expert_info(kind, text)
end

-- A request waits for its answer. One that has been there before is a repeat, unless it may be asked anew once answered.
local function asks(m, asked, key, may_be_anew)
    local before = asked[key]
    if not m.is_new then return end
    if before and not (may_be_anew and before.response) then
        m.note.repeats = before
    else
        asked[key] = m.note
    end
end

local function answers(m, asked, key)
    local request = asked[key]
    if m.is_new and request then
        m.note.request, request.response = request, request.response or m.note
    end
    return request
end

local function comes_back(m, request)
    m.note.request, request.upcall = request, request.upcall or m.note
end

-- An input that nobody confirms: its upcall is the first one with the same content. The last 256 may still come back.
local function remember_input(m, content)
    if not m.is_new or m.note.repeats then return end
    table.insert(m.session.inputs, { note = m.note, content = content })
    if #m.session.inputs > 256 then table.remove(m.session.inputs, 1) end
end

local function match_input(m, is_it)
    local inputs = m.session.inputs
    for index, input in ipairs(inputs) do
        if is_it(input.content) then
            comes_back(m, input.note)
            table.remove(inputs, index)
            return true
        end
    end
end

local function link(m, field, note)
    m.tree:add(field, note.frame):set_generated()
end

-- Ends a message: what was deduced about it, and its words for the column and the tree.
local function finish(m, words)
    local note = m.note
    if note.response then link(m, f.response_in, note.response) end
    if note.upcall then link(m, f.upcall_in, note.upcall) end
    if note.acked then link(m, f.acked_in, note.acked) end
    if note.request then
        link(m, f.request_in, note.request)
        local nanoseconds = math.floor((note.time - note.request.time) * 1e9 + 0.5)
        local seconds = math.floor(nanoseconds / 1e9)
        m.tree:add(f.time, NSTime.new(seconds, math.floor(nanoseconds - seconds * 1e9))):set_generated()
    end
    if note.repeats then
        link(m, f.repeats, note.repeats)
        remark(m, e.repeated, "It was there before, in frame " .. note.repeats.frame)
    end
    m.tree:append_text(", " .. words)
    table.insert(m.context.words, words)
end

-- Bodies ----------------------------------------------------------------------------------------------------------------

-- What is behind `at`. Wireshark has no empty ranges: this one stands for them, and has a length only.
local NOTHING = { len = function() return 0 end }

local function behind(range, at)
    return range:len() > at and range(at, range:len() - at) or NOTHING
end

local function add_text(tree, field, range)
    return range:len() > 0 and tree:add_packet_field(field, range, ENC_UTF_8) or nil
end

-- Text for the column: short, on one line.
local function short(range)
    if range:len() == 0 then return "" end
    local part = range(0, math.min(range:len(), 80))
    -- A string of Wireshark's ends at NUL.
    local text = part:raw():find("\0", 1, true) and part:raw():gsub("[^\32-\126]", ".") or part:string(ENC_UTF_8)
    if range:len() > 80 then text = text:gsub("\239\191\189$", "") .. "…" end
    return (text:gsub("[\r\n]+$", ""):gsub("[\1-\31\127]", " "))
end

local function count(range)
    return tostring(range:uint64())
end

local function low32(number)
    return number % 2 ^ 32
end

local ZERO = {}

-- Adds what stands one behind the other, given as fields and lengths; where it ends.
local function row(m, tree, range, ...)
    local fields, at = { ... }, 0
    for index = 1, #fields, 2 do
        local field, length = fields[index], fields[index + 1]
        local part = range(at, length)
        if field == ZERO then
            if part:uint() ~= 0 then remark(m, e.malformed, "A byte that has to be 0 is not") end
        else
            tree:add(field, part)
        end
        at = at + length
    end
    return at
end

local function add_topic(m, range, length)
    if length > range:len() then
        remark(m, e.malformed, "The topic is longer than the frame")
        return range, ""
    end
    local rest = behind(range, length)
    if length == 0 then return rest, "" end
    local topic = range(0, length)
    add_text(m.tree, f.topic, topic)
    if length > 128 or topic(length - 1, 1):uint() == 0x2a then remark(m, e.malformed, "That is no topic (bad_topic)") end
    return rest, " " .. short(topic)
end

local function add_payload(m, payload)
    if payload:len() > 0 then m.tree:add(f.payload, payload):append_text(' "' .. short(payload) .. '"') end
    return payload:len() == 1 and "1 byte" or payload:len() .. " bytes"
end

local function add_filters(m, range)
    local at, filters = 0, {}
    while at < range:len() do
        local length = range(at, 1):uint()
        if length == 0 or length > 129 or at + 1 + length > range:len() then
            remark(m, e.malformed, "That is no filter (bad_topic), or it is cut off")
            break
        end
        add_text(m.tree, f.filter, range(at + 1, length))
        table.insert(filters, short(range(at + 1, length)))
        at = at + 1 + length
    end
    return table.concat(filters, ", ")
end

-- A reason that the page names, explained.
local function add_reason(m, range, is_daemons)
    local name = short(range)
    local meaning = REASONS[name]
    local item = add_text(m.tree, f.reason, range)
    if item and meaning then item:append_text(" (" .. meaning .. ")") end
    if is_daemons and name ~= "closed" then
        remark(m, e.ended, name .. ": " .. (meaning or "not a reason that this dissector knows"))
    end
    return name
end

-- Type: the field of the value, and the lengths that it may have.
local OPTIONS = {
    { f.name, 1, 64 }, { f.token, 1, 1024 }, { f.filter, 1, 129 }, { nil, 32, 32 }, { f.since, 8, 8 },
    { f.cookie, 8, 8 }, { f.padding, 0, MAX_BODY },
}
local RESUME = 4

local function add_option(m, range, words)
    local kind, value = range(0, 1):uint(), behind(range, 4)
    local tree = m.tree:add(f.option, range, kind)
    row(m, tree, range(1, 3), ZERO, 1, f.option_length, 2)
    local field, least, most = table.unpack(OPTIONS[kind] or {}, 1, 3)
    if not least or value:len() < least or value:len() > most then
        if value:len() > 0 then tree:add(f.option_value, value) end
        if least or kind < SKIPPABLE_OPTION then
            remark(m, e.malformed, "Option " .. kind .. (least and " has not the length that it must have" or " is not known"))
        else
            remark(m, e.unknown, "Option " .. kind .. " is not known, and skipped")
        end
    elseif kind == RESUME then
        row(m, tree, value, f.endpoint, 8, f.secret, 16, f.last, 8)
        table.insert(words, "resume " .. count(value(0, 8)) .. " behind " .. count(value(24, 8)))
    elseif field == f.name or field == f.token or field == f.filter then
        add_text(tree, field, value)
        if field ~= f.token then table.insert(words, OPTION_NAMES[kind]:lower() .. " " .. short(value)) end
    elseif value:len() > 0 then
        tree:add(field, value)
        if field == f.since then table.insert(words, "since " .. count(value)) end
        if field == f.cookie then table.insert(words, "with cookie") end
    end
end

local READ = {}    -- name of a kind → reads its body; what to say of it behind the name

function READ.HELLO(m, body)
    local at, words = row(m, m.tree, body, f.lowest, 1, f.highest, 1, f.role, 1, ZERO, 1, f.nonce, 8), {}
    if body(0, 1):uint() > body(1, 1):uint() then remark(m, e.malformed, "The highest version is below the lowest") end
    local role = body(2, 1):uint()
    if not ROLES[role] then remark(m, e.malformed, "There is no role " .. role) end
    while at < body:len() do
        local length = at + 4 <= body:len() and 4 + body(at + 2, 2):uint()
        if not length or at + length > body:len() then
            remark(m, e.malformed, "An option is cut off")
            break
        end
        add_option(m, body(at, length), words)
        at = at + length
    end
    asks(m, m.conversation.session.asked, "nonce " .. count(body(4, 8)), true)
    return (ROLES[role] and role > 0 and " " .. ROLES[role] or "") .. (#words > 0 and " " or "") .. table.concat(words, ", ")
end

function READ.WELCOME(m, body)
    row(m, m.tree, body, f.version, 1, f.resumed, 1, ZERO, 2, f.lease, 4, f.endpoint, 8, f.secret, 16, f.key, 8,
        f.log_id, 8, f.start, 8, f.next, 8, f.nonce, 8, f.last_message_id, 8, f.largest_payload, 4, ZERO, 4)
    local start, following = body(48, 8):uint64(), body(56, 8):uint64()
    if start > following then remark(m, e.malformed, "Start is above next") end
    answers(m, m.conversation.session.asked, "nonce " .. count(body(64, 8)))
    if m.is_new then
        -- On datagrams each WELCOME with another key begins a session; one that comes again does not.
        local session, key = m.session, tostring(body(32, 8):bytes())
        if not m.context.is_stream then
            session = sessions[key] or new_session()
            sessions[key] = session
        end
        if session.endpoint == nil then session.seen[low32(start:tonumber() - 1)] = true end
        session.endpoint = count(body(8, 8))
    end
    local resumed = body(1, 1):uint() % 2 == 1 and " resumed" or ""
    return " endpoint " .. count(body(8, 8)) .. resumed .. ", from " .. tostring(start) .. ", next " .. tostring(following)
end

function READ.RETRY(m, body)
    row(m, m.tree, body, f.nonce, 8, f.cookie, 8)
    answers(m, m.conversation.session.asked, "nonce " .. count(body(0, 8)))
    return " with a cookie"
end

function READ.SEND(m, body, topic_length, flags)
    row(m, m.tree, body, f.message_id, 8)
    local content = behind(body, 8)
    local payload, topic = add_topic(m, content, topic_length)
    asks(m, m.session.asked, "SEND " .. count(body(0, 8)))
    if flags % 2 == 0 then remember_input(m, topic_length .. ":" .. (content:len() > 0 and content:raw() or "")) end
    return " " .. count(body(0, 8)) .. topic .. ": " .. add_payload(m, payload)
end

function READ.RECEIPT(m, body, _, flags)
    row(m, m.tree, body, f.message_id, 8, f.sequence, 8, f.due, 4)
    local request, sequence = answers(m, m.session.asked, "SEND " .. count(body(0, 8))), count(body(8, 8))
    if m.is_new and request then
        m.session.mine[sequence] = request
        -- On datagrams the upcall may have come first.
        local upcall_before = m.session.own[sequence]
        if upcall_before and not upcall_before.request then comes_back({ note = upcall_before }, request) end
    end
    return " " .. count(body(0, 8)) .. " seq " .. sequence .. ", due to " .. body(16, 4):uint()
        .. (flags >= 0x10 and ", a repeat" or "")
end

function READ.UPCALL(m, body, topic_length)
    row(m, m.tree, body, f.sequence, 8, f.source, 6)
    local sequence, milliseconds, session = body(0, 8):uint64(), body(14, 6):uint64():tonumber(), m.session
    local seconds = math.floor(milliseconds / 1000)
    -- What no clock shows is not shown as one: NSTime holds 32 bits of seconds in places.
    if seconds < 2 ^ 32 then
        m.tree:add(f.received, body(14, 6), NSTime.new(seconds, math.floor(milliseconds - seconds * 1000) * 1000000))
    end
    m.tree:add(f.prev, body(20, 4))
    local content = behind(body, 24)
    local payload, topic = add_topic(m, content, topic_length)
    if m.is_new then
        local place, prev = low32(sequence:tonumber()), body(20, 4):uint()
        m.note.hole = next(session.seen) ~= nil and not session.seen[prev]
        if type(session.seen[place]) == "table" then
            m.note.repeats = session.seen[place]
        else
            session.seen[place] = m.note
            if session.endpoint == count(body(8, 6)) then
                session.own[tostring(sequence)] = m.note
                local request = session.mine[tostring(sequence)]
                local bytes = topic_length .. ":" .. (content:len() > 0 and content:raw() or "")
                if request then comes_back(m, request)
                else match_input(m, function(input) return input == bytes end) end
            end
        end
    end
    if m.note.hole then
        remark(m, e.hole, "An upcall is missing before this one (prev is " .. body(20, 4):uint() .. ")"
            .. (m.context.is_stream and "" or ": lost, or late"))
    end
    return " seq " .. tostring(sequence) .. topic .. " from " .. count(body(8, 6)) .. ": " .. add_payload(m, payload)
end

function READ.GAP(m, body)
    row(m, m.tree, body, f.gap_first, 8, f.gap_last, 8, f.gap_reason, 1, ZERO, 3)
    local first, last, reason = body(0, 8):uint64(), body(8, 8):uint64(), body(16, 1):uint()
    if first > last or first == UInt64(0) then remark(m, e.malformed, "That is no range of sequences") end
    if not GAPS[reason] then remark(m, e.malformed, "There is no reason " .. reason) end
    local words = " " .. tostring(first) .. "–" .. tostring(last) .. " " .. (GAPS[reason] or reason)
    remark(m, e.gap, "Gap" .. words)
    if m.is_new then m.session.seen[low32(last:tonumber())] = true end
    return words
end

function READ.SUBSCRIBE(m, body)
    local at, id = row(m, m.tree, body, f.request_id, 4), body(0, 4):uint()
    asks(m, m.session.asked, "request " .. id)
    return " " .. id .. ": " .. add_filters(m, behind(body, at))
end
READ.UNSUBSCRIBE = READ.SUBSCRIBE

function READ.SUBSCRIBED(m, body)
    local at, id = row(m, m.tree, body, f.request_id, 4, f.from, 8), body(0, 4):uint()
    answers(m, m.session.asked, "request " .. id)
    return " " .. id .. " from " .. count(body(4, 8)) .. ": " .. add_filters(m, behind(body, at))
end

function READ.ACK(m, body)
    row(m, m.tree, body, f.ack_largest, 8, f.ack_bitmap, 8)
    local largest, arrived = body(0, 8):uint64(), 0
    local function add(number, range)
        m.tree:add(f.ack_number, range, number):set_generated()
        local datagram = m.session.numbers[tostring(number)]
        if m.is_new and datagram and not datagram.acked then datagram.acked = m.note end
    end
    add(largest, body(0, 8))
    for bit = 0, 63 do
        -- bitfield counts from the most significant one.
        if body(8, 8):bitfield(63 - bit, 1) == 1 and largest > UInt64(bit + 1) then
            add(largest - (bit + 1), body(15 - math.floor(bit / 8), 1))
            arrived = arrived + 1
        end
    end
    return " " .. tostring(largest) .. (arrived > 0 and " and " .. arrived .. " before" or "")
end

function READ.PING(m, body)
    row(m, m.tree, body, f.nonce, 8)
    if body:len() == 16 then
        m.tree:add(f.cookie, body(8, 8))
    elseif body:len() > 8 then
        remark(m, e.malformed, "A PING has 8 or 16 bytes")
    end
    if body:len() > 8 and m.context.is_stream then remark(m, e.unexpected, "PING with a cookie is for datagrams only") end
    asks(m, m.conversation.session.asked, "nonce " .. count(body(0, 8)), true)
    return body:len() == 16 and " with a cookie" or ""
end

function READ.PONG(m, body)
    row(m, m.tree, body, f.nonce, 8)
    answers(m, m.conversation.session.asked, "nonce " .. count(body(0, 8)))
    return ""
end

function READ.BYE(m, body)
    if m.is_new then
        if m.to_daemon then m.session.asked.bye = m.note else m.conversation.ended = true end
    end
    if not m.to_daemon then answers(m, m.session.asked, "bye") end
    return body:len() > 0 and " " .. add_reason(m, body, not m.to_daemon) or ""
end

function READ.ERROR(m, body)
    row(m, m.tree, body, f.code, 2, f.about, 1, ZERO, 1, f.reference, 8)
    local code, about, reference = body(0, 2):uint(), body(2, 1):uint(), count(body(4, 8))
    local name, is_fatal = table.unpack(CODES[code] or { "code " .. code }, 1, 2)
    if not CODES[code] then remark(m, e.malformed, "There is no code " .. code) end
    local text = behind(body, 12)
    add_text(m.tree, f.error_text, text)
    if about == SEND then answers(m, m.session.asked, "SEND " .. reference) end
    if about == SUBSCRIBE or about == UNSUBSCRIBE then answers(m, m.session.asked, "request " .. reference) end
    if about == HELLO or about == PING then answers(m, m.conversation.session.asked, "nonce " .. reference) end
    local words = " " .. name .. (KINDS[about] and " about " .. KINDS[about].name or "")
        .. (reference ~= "0" and about ~= HELLO and " " .. reference or "") .. (text:len() > 0 and ": " .. short(text) or "")
    remark(m, is_fatal and e.fatal or e.error, "Error" .. words)
    return words
end

function READ.REPLY(m, body)
    row(m, m.tree, body, f.sequence, 8, f.status, 2)
    return " seq " .. count(body(0, 8)) .. ": " .. add_payload(m, behind(body, 10))
end

-- Frames ----------------------------------------------------------------------------------------------------------------

-- What a frame is: its kind's row in KINDS, or one for a kind that is not known; and why this can be no frame.
local function header_of(range)
    local number, length = range(1, 1):uint(), range(4, 4):uint()
    local kind = KINDS[number] or { name = string.format("Kind 0x%02x", number), by = BOTH, least = 0, unknown = true }
    local mistake
    if range(0, 1):uint() ~= 0 then mistake = "A frame begins with NUL"
    elseif length > math.max(kind.most or MAX_BODY, MAX_BODY) then mistake = "The frame is larger than allowed (too_large)" end
    return kind, length, mistake
end

-- Whether what begins so is a frame for all that its header says.
local function is_header(range, to_daemon)
    local kind, length, mistake = header_of(range)
    local topic_length = range(3, 1):uint()
    return not mistake and not kind.unknown and not kind.reserved and length >= kind.least and length <= (kind.most or MAX_BODY)
        and (kind.by == BOTH or (kind.by == CLIENT) == to_daemon) and (topic_length == 0 or kind.topic and topic_length <= length)
end

-- What is wrong with the header of a whole frame.
local function check(m, kind, number, flags, topic_length)
    if number >= SKIPPABLE_KIND then
        remark(m, e.unknown, kind.name .. " is not known, and skipped")
    elseif kind.unknown or kind.reserved or number == DATAGRAM then
        remark(m, e.malformed, kind.name .. ": there is no such kind of frame (unknown_kind)")
    else
        if flags % 16 ~= 0 and flags % 16 ~= (kind.flags or 0) % 16 then
            remark(m, e.malformed, "A critical flag is not known (unknown_flag)")
        end
        if topic_length > 0 and not kind.topic then remark(m, e.malformed, "This kind of frame has no topic") end
        if kind.by ~= BOTH and (kind.by == CLIENT) ~= m.to_daemon then
            remark(m, e.unexpected, kind.name .. " is not sent by the " .. (m.to_daemon and CLIENT or DAEMON))
        end
        if kind.datagrams and m.context.is_stream then remark(m, e.unexpected, kind.name .. " is for datagrams only") end
    end
end

-- One whole frame, or as much of it as was captured.
local function read_frame(context, range, session)
    local kind, length = header_of(range)
    local m = message(context, range, session)
    local number, flags, topic_length = range(1, 1):uint(), range(2, 1):uint(), range(3, 1):uint()
    m.tree:add(f.kind, range(1, 1))
    local tree = m.tree:add(f.flags, range(2, 1))
    if kind.name == "SEND" then tree:add(f.flag_receipt, range(2, 1)) end
    if kind.name == "RECEIPT" then tree:add(f.flag_repeat, range(2, 1)) end
    if kind.name == "SUBSCRIBED" then tree:add(f.flag_everything, range(2, 1)) end
    m.tree:add(f.topic_length, range(3, 1))
    m.tree:add(f.length, range(4, 4))
    check(m, kind, number, flags, topic_length)
    local body, words = behind(range, 8), ""
    if body:len() < length then
        remark(m, e.malformed, "The frame is cut off")
        words = ", cut off"
    elseif length < kind.least or length > (kind.most or MAX_BODY) then
        remark(m, e.malformed, "The body of " .. kind.name .. " cannot have " .. length .. " bytes")
        words = ", malformed"
    elseif READ[kind.name] then
        words, body = READ[kind.name](m, body, topic_length, flags), nil
    end
    if body and body:len() > 0 then m.tree:add(f.body, body) end
    finish(m, kind.name .. words)
end

local function read_rubbish(context, range, why)
    local m = message(context, range, context.conversation.session)
    m.tree:add(f.body, range)
    remark(m, e.malformed, why)
    finish(m, "Malformed: " .. why)
end

-- The frames of a stream. False where the next one is not complete: what is missing has been asked for.
local function read_native_stream(context, tvb)
    local at, pinfo = 0, context.pinfo
    while at < tvb:len() do
        local left = tvb:len() - at
        local kind, length, mistake
        if tvb(at, 1):uint() ~= 0 then mistake = "A frame begins with NUL"
        elseif left >= 8 then kind, length, mistake = header_of(tvb(at, 8)) end
        local missing = length and 8 + length - left
        if mistake then return read_rubbish(context, tvb(at, left), mistake) end
        if (not kind or missing > 0) and pinfo.can_desegment > 0 then
            pinfo.desegment_offset = at
            pinfo.desegment_len = kind and missing or DESEGMENT_ONE_MORE_SEGMENT
            return
        elseif not kind then
            return read_rubbish(context, tvb(at, left), "The frame is cut off")
        end
        read_frame(context, tvb(at, math.min(left, 8 + length)), context.conversation.session)
        at = at + 8 + length
    end
end

local BARE = { [HELLO] = true, [WELCOME] = true, [RETRY] = true, [ERROR] = true }

local function read_native_datagram(context, tvb)
    local at, total, session = 0, tvb:len(), context.conversation.session
    local is_bare = total >= 2 and tvb(1, 1):uint() ~= DATAGRAM
    if total >= 20 and not is_bare then
        local key = tostring(tvb(4, 8):bytes())
        session = sessions[key] or new_session()
        sessions[key] = session
        local m = message(context, tvb(0, 20), session)
        row(m, m.tree, tvb(0, 20), ZERO, 1, f.kind, 1, ZERO, 2, f.key, 8, f.number, 8)
        local number = count(tvb(12, 8))
        if m.is_new and not m.to_daemon and number ~= "0" then
            m.note.repeats = session.numbers[number]
            session.numbers[number] = session.numbers[number] or m.note
        end
        finish(m, number == "0" and "Datagram" or "Datagram " .. number)
        at = 20
        if total == at then remark(m, e.malformed, "There is no frame in this datagram") end
    end
    while at < total do
        local kind, length, mistake
        if total - at >= 8 then kind, length, mistake = header_of(tvb(at, 8)) end
        if mistake or not kind or is_bare and (at > 0 or not BARE[tvb(1, 1):uint()]) then
            return read_rubbish(context, tvb(at, total - at), mistake or kind and "This cannot stand alone in a datagram"
                or "The frame is cut off")
        end
        read_frame(context, tvb(at, math.min(total - at, 8 + length)), session)
        at = at + 8 + length
    end
end

-- Text ------------------------------------------------------------------------------------------------------------------

-- What the final line of a stream says, or nil.
local function farewell(text)
    return text:match("^upcalld: ([%w_]+)$")
end

local function text_kind(context, text)
    local join, cookie = text:match("^(join) ?(%x*)$")
    local is_cookie = cookie and #cookie == 16
    if context.is_stream then return not context.to_daemon and farewell(text) and "final line" or nil end
    if join and (is_cookie or text == "join") and (context.to_daemon or is_cookie) then
        return context.to_daemon and "join" or "challenge", is_cookie and cookie
    end
    local bye = text == "bye" or text:match("^bye (%x+)$")
    if context.to_daemon and bye then return "bye", type(bye) == "string" and bye end
end

local function read_text(context, range)
    local m = message(context, range, context.conversation.session)
    local raw = range:raw():gsub("\r?\n$", "")
    local kind, cookie = text_kind(context, raw)
    kind = kind or context.to_daemon and "input" or "upcall"
    if #raw > 0 then add_text(m.tree, f.text, range(0, #raw)) end
    m.tree:add(f.text_kind, kind):set_generated()
    if cookie then m.tree:add(f.text_cookie, range(#raw - #cookie, #cookie)) end
    if kind == "final line" then
        add_reason(m, range(9, #raw - 9), true)
        if m.is_new then m.conversation.ended = true end
    elseif kind == "challenge" then
        answers(m, m.session.asked, "text")
    elseif kind == "input" then
        remember_input(m, raw)
    elseif kind == "upcall" and m.is_new then
        -- Exactly in the usual format; else whatever ends in the input, or holds it.
        local prefix = upcall.prefs.prefix
        local said = raw:sub(1, #prefix) == prefix and raw:sub(#prefix + 1)
        local found = said and match_input(m, function(input) return input == said end)
        if not said then
            found = match_input(m, function(input) return #input > 0 and raw:sub(-#input) == input end)
                or match_input(m, function(input) return #input > 0 and raw:find(input, 1, true) end)
        end
    end
    if m.is_new and m.to_daemon then m.session.asked.text = m.note end
    finish(m, kind == "input" and "Text: " .. short(range) or short(range))
end

-- No link has smaller segments: only a longer text without newline can be the first part of a line.
local SEGMENT = 1200

-- Where the message that begins at `at` ends; nil if it is not complete. To the daemon, every segment is one until the first
-- newline, and then every line. From it, upcalls of both kinds come, those without a newline told apart by what they begin with.
local function end_of_text(context, raw, at)
    local prefix = upcall.prefs.prefix
    local newline = raw:find("\n", at, true)
    if not context.to_daemon and #prefix > 0 and raw:sub(at, at + #prefix - 1) == prefix then
        local following = raw:find(prefix, at + 1, true)
        local last = following or raw:find("upcalld: [%w_]+\n$", at + 1)
        if last and last <= (newline or #raw) then return last - 1 end
    end
    if newline then return newline end
    if context.to_daemon then return not context.is_lines and #raw or nil end
    local rest = raw:sub(at)
    local is_begun = #rest < #prefix and prefix:sub(1, #rest) == rest or rest:find("^upcalld: ")
        or ("upcalld: "):sub(1, #rest) == rest
    return not is_begun and #raw < SEGMENT and #raw or nil
end

local function read_text_stream(context, tvb)
    local raw, at, pinfo = tvb:raw(), 1, context.pinfo
    while at <= #raw do
        local last = end_of_text(context, raw, at)
        if not last and pinfo.can_desegment > 0 then
            pinfo.desegment_offset, pinfo.desegment_len = at - 1, DESEGMENT_ONE_MORE_SEGMENT
            return
        end
        last = last or #raw
        context.is_lines = context.is_lines or raw:sub(last, last) == "\n"
        read_text(context, tvb(at - 1, last - at + 1))
        at = last + 1
    end
end

-- Packets ---------------------------------------------------------------------------------------------------------------

-- Whether these are the first bytes of a session; nothing else looks like it but by chance.
local function is_beginning(tvb, is_stream)
    if tvb:len() < 20 or tvb(0, 1):uint() ~= 0 or tvb(2, 2):uint() ~= 0 then return false end
    local number, length = tvb(1, 1):uint(), tvb(4, 4):uint()
    if number == HELLO then
        return length >= 12 and length <= MAX_BODY and tvb(8, 1):uint() >= 1 and tvb(8, 1):uint() <= tvb(9, 1):uint()
            and tvb(10, 1):uint() <= 2 and tvb(11, 1):uint() == 0 and (is_stream or 8 + length == tvb:len())
    elseif number == WELCOME then
        return length == 88 and tvb(8, 1):uint() >= 1 and tvb(10, 2):uint() == 0
    elseif number == DATAGRAM and not is_stream and tvb:len() >= 28 then
        local fits = tvb:len() >= 28 + tvb(24, 4):uint()
        return fits and (is_header(tvb(20, 8), true) or is_header(tvb(20, 8), false))
    end
    return false
end

-- Whether a stream is native here: by its first byte, or the other direction's. A capture that begins in the middle of a
-- text is set right by the first frame that can be nothing else.
local function is_native(tvb, to_daemon, way, other_way)
    local is_nul = tvb(0, 1):uint() == 0
    if is_nul and (way.native == nil or tvb:len() >= 8 and is_header(tvb(0, 8), to_daemon)) then return true end
    if way.native == nil then return other_way.native == true and not tvb:raw():find("^upcalld: ") end
    return way.native
end

function upcall.dissector(tvb, pinfo, tree)
    if tvb:len() == 0 then return 0 end
    local is_stream = pinfo.port_type == 2
    local frame = frames[pinfo.number]
    if not frame then
        local conversation, to_daemon = find_conversation(tvb, pinfo, is_stream)
        local way, other_way = conversation.to_daemon, conversation.to_client
        if not to_daemon then way, other_way = other_way, way end
        if is_stream then way.native = is_native(tvb, to_daemon, way, other_way) end
        frame = { conversation = conversation, to_daemon = to_daemon, way = way, native = way.native, is_lines = way.is_lines }
        frames[pinfo.number] = frame
    end
    local context = { pinfo = pinfo, tree = tree, is_stream = is_stream, conversation = frame.conversation, words = {},
        to_daemon = frame.to_daemon, is_lines = frame.is_lines }

    if is_stream then
        local read = frame.native and read_native_stream or read_text_stream
        read(context, tvb)
        frame.way.is_lines = context.is_lines
    elseif tvb(0, 1):uint() == 0 then
        read_native_datagram(context, tvb)
    else
        read_text(context, tvb())
    end
    -- Words of a message that ends in this frame stay before those of the next ones.
    if #context.words > 0 then
        local before = pinfo.private.upcall_words
        pinfo.private.upcall_words = (before and before .. " | " or "") .. table.concat(context.words, " | "):gsub("^(Datagram[ %d]*) | ", "%1: ")
        pinfo.cols.protocol = "UPCALL"
        pinfo.cols.info = pinfo.private.upcall_words
    end
    return tvb:len()
end

local function try(is_stream)
    return function(tvb, pinfo, tree)
        if not is_beginning(tvb, is_stream) then return false end
        pinfo.conversation = upcall
        upcall.dissector(tvb, pinfo, tree)
        return true
    end
end
upcall:register_heuristic("tcp", try(true))
upcall:register_heuristic("udp", try(false))

local ports
local function take_ports()
    for _, name in ipairs({ "tcp.port", "udp.port" }) do
        local by_port = DissectorTable.get(name)
        if ports then by_port:remove(ports, upcall) end
        by_port:add(upcall.prefs.ports, upcall)
    end
    ports = upcall.prefs.ports
end
upcall.prefs_changed = take_ports
take_ports()
