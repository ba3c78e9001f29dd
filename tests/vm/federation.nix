# The network on machines of their own: CA and proxy, three homeservers. What they can do is federation-lab's scenario.
{
  imports = [ ./common/network.nix ];
}
