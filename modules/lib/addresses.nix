# Addresses on which programs listen: `127.0.0.1:8008`, `[::]:8448`, `unix:PATH` and `systemd:NAME`.
{ lib }:
rec {
  isUnix = lib.hasPrefix "unix:";
  isTcp = address: !(isUnix address) && !(lib.hasPrefix "systemd:" address);
  portOf = address: lib.toIntBase10 (lib.last (lib.splitString ":" address));
  hostOf = address: lib.removeSuffix ":${toString (portOf address)}" address;

  # An IPv6 address as it stands before a port.
  bracketed = host: if lib.hasInfix ":" host && !(lib.hasPrefix "[" host) then "[${host}]" else host;
  isWildcard =
    host:
    lib.elem host [
      "0.0.0.0"
      "::"
      "[::]"
    ];
  # How a program on this machine reaches a listener.
  reached = host: if isWildcard host then "127.0.0.1" else bracketed host;

  # Only this machine reaches it; `[::]:8448`, `0.0.0.0:8448` and a machine's own address can be reached from outside.
  isPrivate =
    address:
    lib.any (start: lib.hasPrefix start address) [
      "127."
      "[::1]:"
      "unix:"
    ];

  # Whether two listeners cannot both be there.
  clash =
    one: other:
    if isTcp one && isTcp other then
      portOf one == portOf other
      && (
        hostOf one == hostOf other
        || covers (hostOf one) (hostOf other)
        || covers (hostOf other) (hostOf one)
      )
    else
      one == other;
  # `[::]` takes IPv4 too.
  covers = wildcard: host: wildcard == "[::]" || wildcard == "0.0.0.0" && !lib.hasPrefix "[" host;
}
