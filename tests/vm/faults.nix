# What breaks in the night: processes that are killed, a homeserver that is cut off, a machine that loses its power.
# Nothing that was said may be lost.
{
  imports = [ ./common/network.nix ];
}
