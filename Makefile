# Builds, installs and packages what cargo alone does not: units, manual pages, completions, configuration.
#
#   make                                      build
#   sudo make install                         install below /usr/local, units where systemd looks for them
#   make install DESTDIR=/tmp/x PREFIX=/usr   for a package
#   make deb                                  a Debian package (needs cargo-deb)

PREFIX ?= /usr/local
SYSCONFDIR ?= /etc
UNITDIR ?= $(if $(filter /usr,$(PREFIX)),/usr/lib/systemd/system,/etc/systemd/system)
SYSUSERSDIR ?= $(if $(filter /usr,$(PREFIX)),/usr/lib/sysusers.d,/etc/sysusers.d)
CARGO ?= cargo
CARGO_TARGET_DIR ?= target

RELEASE = $(CARGO_TARGET_DIR)/release
DOC = $(DESTDIR)$(PREFIX)/share/doc/upcalld
UNITS = upcalld.service upcalld.socket upcalld-local.socket upcalld-udp.socket upcalld-datagrams.socket
COMPLETIONS = $(RELEASE)/completions

# What is installed elsewhere says where.
PLACE = sed 's,/usr/\(bin/upcalld\|share/doc/upcalld\),$(PREFIX)/\1,'

all:
	$(CARGO) build --release --locked
	mkdir -p $(COMPLETIONS)
	for program in upcalld upcall-client; do \
	    $(RELEASE)/upcall-client completions bash $$program >$(COMPLETIONS)/$$program && \
	    $(RELEASE)/upcall-client completions zsh $$program >$(COMPLETIONS)/_$$program && \
	    $(RELEASE)/upcall-client completions fish $$program >$(COMPLETIONS)/$$program.fish || exit 1; \
	done

# Builds nothing, so that root need not. A configuration that is there stays.
install:
	@test -e $(COMPLETIONS)/upcalld || { echo "run make first" >&2; exit 1; }
	install -d $(DESTDIR)$(UNITDIR) $(DOC)/examples
	install -D -m 755 -t $(DESTDIR)$(PREFIX)/bin $(RELEASE)/upcalld $(RELEASE)/upcall-client
	for page in upcall-client.1 upcalld.toml.5 upcall-protocol.7 upcalld.8; do \
	    folder=$(DESTDIR)$(PREFIX)/share/man/man$${page##*.} && install -d $$folder && \
	    $(PLACE) man/$$page >$$folder/$$page && chmod 644 $$folder/$$page || exit 1; \
	done
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/bash-completion/completions \
	    $(COMPLETIONS)/upcalld $(COMPLETIONS)/upcall-client
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/zsh/site-functions \
	    $(COMPLETIONS)/_upcalld $(COMPLETIONS)/_upcall-client
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d \
	    $(COMPLETIONS)/upcalld.fish $(COMPLETIONS)/upcall-client.fish
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/upcalld/wireshark compose/wireshark/upcall.lua
	install -m 644 -t $(DOC) README.md LICENSE-MIT LICENSE-APACHE
	install -D -m 644 -t $(DOC)/docs docs/*.md
	install -m 644 config/upcalld.toml $(DOC)/examples/upcalld.toml
	for unit in $(UNITS); do \
	    $(PLACE) systemd/$$unit >$(DESTDIR)$(UNITDIR)/$$unit && \
	    chmod 644 $(DESTDIR)$(UNITDIR)/$$unit || exit 1; \
	done
	install -D -m 644 systemd/upcalld.sysusers $(DESTDIR)$(SYSUSERSDIR)/upcalld.conf
	install -d $(DESTDIR)$(SYSCONFDIR)/upcalld
	test -e $(DESTDIR)$(SYSCONFDIR)/upcalld/upcalld.toml || { umask 022 && \
	    $(PLACE) config/packaged/upcalld.toml >$(DESTDIR)$(SYSCONFDIR)/upcalld/upcalld.toml; }

# The configuration stays.
uninstall:
	rm -f $(DESTDIR)$(PREFIX)/bin/upcalld $(DESTDIR)$(PREFIX)/bin/upcall-client
	rm -f $(DESTDIR)$(PREFIX)/share/man/man1/upcall-client.1 $(DESTDIR)$(PREFIX)/share/man/man5/upcalld.toml.5
	rm -f $(DESTDIR)$(PREFIX)/share/man/man7/upcall-protocol.7 $(DESTDIR)$(PREFIX)/share/man/man8/upcalld.8
	for program in upcalld upcall-client; do \
	    rm -f $(DESTDIR)$(PREFIX)/share/bash-completion/completions/$$program \
	        $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_$$program \
	        $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/$$program.fish; \
	done
	for unit in $(UNITS); do rm -f $(DESTDIR)$(UNITDIR)/$$unit; done
	rm -f $(DESTDIR)$(SYSUSERSDIR)/upcalld.conf
	rm -rf $(DOC) $(DESTDIR)$(PREFIX)/share/upcalld

deb: all
	$(CARGO) deb --no-build --locked

.PHONY: all install uninstall deb
